#!/usr/bin/env escript
%% A node of Distributed Erlang, as the bench drives it: one flat JSON object a line each way, as fdn.bench.worker has it.
%% Sends are plain `Pid ! Binary`, which is the fast way in Erlang; a sender is suspended while the connection is busy.
-mode(compile).

-define(STILL_NS, 1000000000).
-define(LOOK_MS, 1).

main([Role, Json]) ->
    Arguments = decode(Json),
    ok = application:set_env(kernel, inet_dist_use_interface, {127, 0, 0, 1}),
    Name = list_to_atom("fdn-bench-" ++ Role ++ "-" ++ os:getpid() ++ "@127.0.0.1"),
    {ok, _} = net_kernel:start([Name, longnames]),
    case Role of
        "receiver" ->
            register(take, spawn_link(fun() -> take(0, 0) end)),
            register(echo, spawn_link(fun echo/0)),
            register(put, spawn_link(fun put_here/0)),
            say([{node, atom_to_binary(Name)}, {otp, list_to_binary(erlang:system_info(otp_release))}]),
            orders(fun(<<"tally">>, Order) -> tally(get_value(expected, Order));
                      (<<"clock">>, _) -> [{at, seconds(clock())}]
                   end);
        "sender" ->
            Peer = binary_to_atom(get_value(peer, Arguments)),
            true = net_kernel:connect_node(Peer),
            say([]),
            orders(fun(Kind, Order) -> send(Kind, Order, Peer, get_value(python, Arguments, <<>>)) end)
    end.

%% -- the receiver

take(Count, Bytes) ->
    receive
        Data when is_binary(Data) -> take(Count + 1, Bytes + byte_size(Data));
        {count, Who} -> Who ! {counted, Count, Bytes}, take(Count, Bytes)
    end.

echo() ->
    receive {Who, Data} -> Who ! {back, Data}, echo() end.

put_here() ->
    receive {Who, Data} -> Who ! {taken, byte_size(Data)}, put_here() end.

tally(Expected) ->
    tally(Expected, counted(), clock()).

tally(Expected, {Count, Bytes} = Last, LastAt) ->
    Now = clock(),
    if
        Count >= Expected -> [{received, Count}, {bytes, Bytes}, {ended_at, seconds(Now)}];
        Now - LastAt > ?STILL_NS -> [{received, Count}, {bytes, Bytes}, {ended_at, seconds(LastAt)}];
        true ->
            timer:sleep(?LOOK_MS),
            case counted() of
                Last -> tally(Expected, Last, LastAt);
                More -> tally(Expected, More, clock())
            end
    end.

counted() ->
    take ! {count, self()},
    receive {counted, Count, Bytes} -> {Count, Bytes} end.

%% -- the sender

send(<<"cast">>, Order, Peer, _) ->
    Data = binary:copy(<<0>>, get_value(size, Order)),
    Count = get_value(count, Order),
    Started = clock(),
    ok = casts({take, Peer}, Data, Count),
    [{sent, Count}, {started_at, seconds(Started)}];
send(<<"latency">>, Order, Peer, _) ->
    Data = binary:copy(<<0>>, get_value(size, Order)),
    [{durations_s, [begin
        Started = clock(),
        {echo, Peer} ! {self(), Data},
        receive {back, _} -> ok end,
        seconds(clock() - Started)
     end || _ <- lists:seq(1, get_value(count, Order))]}];
send(<<"calls">>, Order, Peer, _) ->
    Data = binary:copy(<<0>>, get_value(size, Order)),
    InFlight = get_value(in_flight, Order),
    Each = get_value(count, Order) div InFlight,
    Started = clock(),
    Callers = [spawn_monitor(fun() -> calls({echo, Peer}, Data, Each) end) || _ <- lists:seq(1, InFlight)],
    [receive {'DOWN', Monitor, process, _, normal} -> ok end || {_, Monitor} <- Callers],
    [{calls, Each * InFlight}, {elapsed_s, seconds(clock() - Started)}];
send(<<"puts">>, Order, Peer, _) ->
    Data = binary:copy(<<0>>, get_value(size, Order)),
    Started = clock(),
    EndsAt = Started + round(get_value(seconds, Order) * 1.0e9),
    Senders = [spawn_monitor(fun() -> exit({sent, puts({put, Peer}, Data, EndsAt, 0)}) end)
               || _ <- lists:seq(1, get_value(in_flight, Order))],
    Sent = lists:sum([receive {'DOWN', Monitor, process, _, {sent, Count}} -> Count end || {_, Monitor} <- Senders]),
    [{sent, Sent}, {received, Sent}, {elapsed_s, seconds(clock() - Started)}];
send(Load, Order, Peer, Python) when Load =:= <<"idle">>; Load =:= <<"saturated">> ->
    Seconds = get_value(seconds, Order),
    Arguments = [<<"-m">>, <<"fdn.bench.metronome">>, text(get_value(rate, Order)), text(Seconds)],
    Metronome = open_port({spawn_executable, Python}, [{args, Arguments}, binary, stream, exit_status]),
    {Started, Ticks} = receive {Metronome, {data, <<Begins:64, First/binary>>}} -> {Begins, First} end,
    EndsAt = Started + round(Seconds * 1.0e9),
    Data = binary:copy(<<0>>, get_value(size, Order, 1)),
    Senders = [spawn_monitor(fun() -> exit({sent, bulk({take, Peer}, Data, EndsAt, 0)}) end)
               || _ <- lists:seq(1, get_value(senders, Order, 0)), Load =:= <<"saturated">>],
    Durations = round_trips(Metronome, {echo, Peer}, Ticks, 0, []),
    Sent = lists:sum([receive {'DOWN', Monitor, process, _, {sent, Count}} -> Count end || {_, Monitor} <- Senders]),
    [{durations_s, Durations}, {unanswered, 0}, {sent, Sent}, {started_at, seconds(Started)}].

casts(_, _, 0) -> ok;
casts(To, Data, Count) -> To ! Data, casts(To, Data, Count - 1).

calls(_, _, 0) -> ok;
calls(To, Data, Count) ->
    To ! {self(), Data},
    receive {back, _} -> calls(To, Data, Count - 1) end.

puts(To, Data, EndsAt, Count) ->
    To ! {self(), Data},
    receive {taken, _} -> ok end,
    case clock() >= EndsAt of
        true -> Count + 1;
        false -> puts(To, Data, EndsAt, Count + 1)
    end.

bulk(To, Data, EndsAt, Count) ->
    case clock() >= EndsAt of
        true -> Count;
        false -> To ! Data, bulk(To, Data, EndsAt, Count + 1)
    end.

%% Ends when the metronome has, and every answer is here.
round_trips(ended, _, _, 0, Durations) -> Durations;
round_trips(Metronome, To, Rest, Waiting, Durations) ->
    receive
        {Metronome, {data, Data}} ->
            {Sent, Left} = ticks(<<Rest/binary, Data/binary>>, To, 0),
            round_trips(Metronome, To, Left, Waiting + Sent, Durations);
        {Metronome, {exit_status, _}} -> round_trips(ended, To, Rest, Waiting, Durations);
        {back, DueAt} -> round_trips(Metronome, To, Rest, Waiting - 1, [seconds(clock() - DueAt) | Durations])
    end.

ticks(<<DueAt:64, Rest/binary>>, To, Sent) -> To ! {self(), DueAt}, ticks(Rest, To, Sent + 1);
ticks(Rest, _, Sent) -> {Sent, Rest}.

%% -- orders and answers

orders(CarryOut) ->
    case io:get_line("") of
        eof -> halt(0);
        Line ->
            Order = decode(Line),
            say(CarryOut(get_value(order, Order), Order)),
            orders(CarryOut)
    end.

say(Fields) ->
    io:put_chars([${, lists:join($,, [[$", atom_to_list(Name), $", $:, encode(Value)] || {Name, Value} <- Fields]), $}, $\n]).

encode(Value) when is_binary(Value) -> [$", Value, $"];
encode(Value) when is_integer(Value) -> integer_to_list(Value);
encode(Value) when is_float(Value) -> float_to_list(Value, [{decimals, 9}, compact]);
encode(Values) when is_list(Values) -> [$[, lists:join($,, [encode(Value) || Value <- Values]), $]].

%% Flat objects of numbers and of strings without escapes, which is all that is sent.
decode(Line) ->
    Pattern = "\"([a-z_]+)\": *(?:\"([^\"]*)\"|([-+.0-9e]+))",
    case re:run(Line, Pattern, [global, {capture, [1, 2, 3], binary}]) of
        nomatch -> [];
        {match, Found} -> [{binary_to_atom(Name), value(Rest)} || [Name | Rest] <- Found]
    end.

value([Text]) -> Text;
value([Text, <<>>]) -> Text;
value([<<>>, Number]) ->
    try binary_to_integer(Number) catch error:badarg -> binary_to_float(Number) end.

get_value(Name, Fields) -> {Name, Value} = lists:keyfind(Name, 1, Fields), Value.

get_value(Name, Fields, Default) -> proplists:get_value(Name, Fields, Default).

text(Number) when is_integer(Number) -> integer_to_binary(Number);
text(Number) -> float_to_binary(Number, [{decimals, 6}, compact]).

clock() -> os:perf_counter(nanosecond).

seconds(Nanoseconds) -> Nanoseconds / 1.0e9.
