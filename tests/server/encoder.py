"""A model that makes vectors of texts and writes none.

    encoder.py URL
"""

from client import run_all


def test_vectors(c):
    answer = c.ok("/v1/embeddings", {"input": ["a", "b"]})
    assert len(answer["data"]) == 2
    for one in answer["data"]:
        assert abs(sum(x * x for x in one["embedding"]) - 1) < 1e-4


def test_no_text(c):
    c.refused("/completion", {"prompt": "a"}, 501, "vectors")
    c.refused("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, 501, "vectors")
    assert c.ok("/slots?")[0]["is_processing"] is False


run_all(globals())
