"""Prompts, and the shortest way to a text."""

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "1, 2, 3, 4, 5, 6, 7,",
]


def greedy(llama, prompt, **options):
    answer = llama.create_completion(prompt, temperature=0.0, **{"max_tokens": 24, **options})
    return answer["choices"][0]["text"]
