def test_three(cluster):
    nodes = cluster.start(3, app="tests.integration.apps:app")
    assert set(nodes[0].statuses().values()) == {"alive"}
    with nodes[0].client() as c:
        assert c.call("who@n3") == "n3"
    nodes[1].kill()
    cluster.settle()
