"""The service that the minimal client of the specification calls."""

import fdn

app = fdn.App("adder")


@app.service("math")
class Math:
    def add(self, a: int, b: int) -> int:
        return a + b


if __name__ == "__main__":
    app.run(bind="tcp://127.0.0.1:7400")
