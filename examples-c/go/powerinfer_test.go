package powerinfer

// POWERINFER_TEST_MODEL names SmolLM2 135M Instruct in Q4_1, POWERINFER_SIMPLE the example program
// `simple`, whose text is compared.

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

const prompt = "The three primary colours are"

func load(t *testing.T) *Model {
	t.Helper()
	path := os.Getenv("POWERINFER_TEST_MODEL")
	if path == "" {
		t.Skip("POWERINFER_TEST_MODEL is not set")
	}
	model, err := Load(path, ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	return model
}

func newContext(t *testing.T, model *Model, tokens int) *Context {
	t.Helper()
	c, err := model.NewContext(ContextOptions{Tokens: tokens, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func complete(t *testing.T, c *Context, prompt string, how Sampling) (string, int) {
	t.Helper()
	var all strings.Builder
	parts := 0
	err := c.Complete(context.Background(), prompt, how, func(text string) error {
		if !utf8.ValidString(text) {
			t.Errorf("half a character in %q", text)
		}
		parts++
		all.WriteString(text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String(), parts
}

func TestGreedyTextIsThatOfTheCProgram(t *testing.T) {
	model := load(t)
	c := newContext(t, model, 512)
	text, parts := complete(t, c, prompt, Sampling{MaxTokens: 24})
	if again, _ := complete(t, c, prompt, Sampling{MaxTokens: 24}); again != text || parts < 12 {
		t.Fatalf("%d parts, %q then %q", parts, text, again)
	}
	simple := os.Getenv("POWERINFER_SIMPLE")
	if simple == "" {
		t.Skip("POWERINFER_SIMPLE is not set")
	}
	said, err := exec.Command(simple, "-m", os.Getenv("POWERINFER_TEST_MODEL"), "-n", "24", prompt).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := prompt + text + "\n"; string(said) != want {
		t.Fatalf("%q, not %q", want, said)
	}
}

func TestASeedMakesATextThatComesAgain(t *testing.T) {
	c := newContext(t, load(t), 256)
	told := func(seed uint32) string {
		text, _ := complete(t, c, prompt, Sampling{MaxTokens: 12, Temperature: 1.2, Seed: seed})
		return text
	}
	if first := told(1); told(1) != first || told(2) == first {
		t.Fatal("the seed does not decide")
	}
}

func TestCharactersComeWhole(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "a": 1, "aé": 3, "a\xc3": 1, "\xe6\x97": 0, "a\xf0\x9f\xa6": 1, "🦙": 4,
		"\x80\x80": 2, "a\xff": 2, "日\xf0": 3,
	} {
		if got := wholeCharacters([]byte(text)); got != want {
			t.Errorf("%q: %d, not %d", text, got, want)
		}
	}
	model := load(t)
	for _, text := range []string{"naïve café 🦙 日本", "a\x00b"} {
		tokens, err := model.Tokenize(text)
		if err != nil {
			t.Fatal(err)
		}
		var bytes []byte
		for _, token := range tokens {
			bytes = model.piece(bytes, token)
		}
		if string(bytes) != text {
			t.Fatalf("%q came back as %q", text, bytes)
		}
	}
}

func TestChat(t *testing.T) {
	text, err := load(t).Chat([]Message{{"user", "Hé"}})
	if want := "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n"; err != nil || text != want {
		t.Fatalf("%q, %v", text, err)
	}
}

func TestErrorsSayWhy(t *testing.T) {
	for _, content := range []string{"", "not a model"} {
		path := filepath.Join(t.TempDir(), "no.gguf")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, ModelOptions{}); err == nil || strings.Count(err.Error(), "no.gguf") < 2 {
			t.Fatalf("%v", err)
		}
	}
	model := load(t)
	c := newContext(t, model, 256)
	nothing := func(string) error { return nil }
	for text, reason := range map[string]string{
		"": "the prompt is empty", strings.Repeat("a ", 400): "the context has room for 256",
	} {
		err := c.Complete(context.Background(), text, Sampling{}, nothing)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Fatalf("%v", err)
		}
	}
	enough := errors.New("enough")
	if err := c.Complete(context.Background(), prompt, Sampling{}, func(string) error { return enough }); err != enough {
		t.Fatalf("%v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	err := c.Complete(cancelled, prompt, Sampling{}, func(string) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	c.Close()
	if err := c.Complete(context.Background(), prompt, Sampling{}, nothing); err != ErrClosed {
		t.Fatalf("%v", err)
	}
	if _, err := model.NewEmbedder(EmbedOptions{}); err == nil || !strings.Contains(err.Error(), "pooling") {
		t.Fatalf("%v", err)
	}
}

func TestAFullContextEndsTheText(t *testing.T) {
	c := newContext(t, load(t), 256)
	if _, parts := complete(t, c, strings.Repeat(" a", 250), Sampling{MaxTokens: 1 << 20}); parts == 0 || parts > 7 {
		t.Fatalf("%d parts", parts)
	}
}

func TestEmbeddings(t *testing.T) {
	e, err := load(t).NewEmbedder(EmbedOptions{Pooling: PoolingMean, Tokens: 64, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	texts := []string{
		"The cat sits on the mat.", "A kitten is lying on a rug.",
		"Interest rates were raised by the central bank.",
	}
	for len(texts) < 20 { // more than a batch has
		texts = append(texts, texts[0])
	}
	vectors, err := e.Embed(texts...)
	if err != nil {
		t.Fatal(err)
	}
	cosine := func(a, b []float32) (dot float64) {
		for i := range a {
			dot += float64(a[i]) * float64(b[i])
		}
		return dot
	}
	if len(vectors) != len(texts) || len(vectors[0]) != 576 || math.Abs(cosine(vectors[0], vectors[0])-1) > 1e-5 {
		t.Fatalf("%d vectors", len(vectors))
	}
	if cosine(vectors[0], vectors[1]) <= cosine(vectors[0], vectors[2]) {
		t.Fatal("cats are nearer to banks than to kittens")
	}
	if alone, err := e.Embed(texts[0]); err != nil || cosine(alone[0], vectors[19]) < 0.99999 {
		t.Fatal("a text's vector depends on its company")
	}
	if _, err := e.Embed(strings.Repeat("a ", 100)); err == nil || !strings.Contains(err.Error(), "not 1 to 64") {
		t.Fatalf("%v", err)
	}
}

func TestContextsWorkSideBySide(t *testing.T) {
	model := load(t)
	want, _ := complete(t, newContext(t, model, 256), prompt, Sampling{MaxTokens: 8})
	var group sync.WaitGroup
	for i := 0; i < 3; i++ {
		c := newContext(t, model, 256)
		group.Add(1)
		go func() {
			defer group.Done()
			if text, _ := complete(t, c, prompt, Sampling{MaxTokens: 8}); text != want {
				t.Errorf("%q, not %q", text, want)
			}
		}()
	}
	group.Wait()
}

func TestTheModelStaysUntilItsContextsAreClosed(t *testing.T) {
	model := load(t)
	c := newContext(t, model, 256)
	model.Close()
	model.Close()
	if _, err := model.NewContext(ContextOptions{}); err != ErrClosed {
		t.Fatalf("%v", err)
	}
	if text, _ := complete(t, c, prompt, Sampling{MaxTokens: 4}); text == "" {
		t.Fatal("nothing was said")
	}
	c.Close()
	c.Close()
	if model.handle != nil {
		t.Fatal("the model was not freed")
	}
}
