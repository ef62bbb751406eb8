"""The server that these tests trust does what S3 promises, seen over plain HTTP."""

from concurrent.futures import ThreadPoolExecutor


def test_conditional_puts_and_ranges_are_honoured(server):
    path = f"/{server.new_bucket()}/object"
    status, _, headers = server.request("PUT", path, b"one", If_None_Match="*")
    assert status == 200
    assert server.request("PUT", path, b"two", If_None_Match="*")[0] == 412
    assert server.request("PUT", path, b"three", If_Match=headers["ETag"])[0] == 200
    assert server.request("PUT", path, b"four", If_Match=headers["ETag"])[0] == 412
    assert server.request("GET", path)[1] == b"three"
    status, body, _ = server.request("GET", path, Range="bytes=1-3")
    assert (status, body) == (206, b"hre")
    assert server.request("GET", path, Range="bytes=99-100")[0] == 416


def test_of_many_conditional_puts_at_once_one_comes_through(server):
    bucket = server.new_bucket()

    def put(number: int) -> int:
        return server.request("PUT", f"/{bucket}/lock", b"%d" % number, If_None_Match="*")[0]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(put, range(8))) == [200, *[412] * 7]
