package powerinfer

// #include "calls.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"
)

// ContextOptions say what a context is like.
type ContextOptions struct {
	Tokens  int // length; 0 for as long as the model was trained for
	Threads int // 0 for one for each processor
}

// Context is what one conversation remembers.
type Context struct {
	model  *Model
	mutex  sync.Mutex
	handle *C.struct_llama_context
}

// NewContext makes a context over the model.
func (m *Model) NewContext(options ContextOptions) (*Context, error) {
	params := C.llama_context_default_params()
	params.n_ctx = C.uint32_t(options.Tokens)
	params.n_threads, params.n_threads_batch = threads(options.Threads), threads(options.Threads)
	handle, err := m.context(params)
	if err != nil {
		return nil, err
	}
	return &Context{model: m, handle: handle}, nil
}

// context makes one that keeps the model until it is released.
func (m *Model) context(params C.struct_llama_context_params) (*C.struct_llama_context, error) {
	if err := m.use(); err != nil {
		return nil, err
	}
	var reason C.struct_reason
	handle := C.call_context(m.handle, params, &reason)
	if handle == nil {
		m.release()
		return nil, failure("cannot make a context", &reason)
	}
	return handle, nil
}

// Close frees the context, after the call that uses it now.
func (c *Context) Close() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.handle != nil {
		C.llama_free(c.handle)
		c.handle = nil
		c.model.release()
	}
}

// Sampling says how tokens are chosen and when a completion ends. The zero value takes the best token
// each time, up to 256 of them.
type Sampling struct {
	MaxTokens   int     // 0 for 256
	Temperature float32 // 0 for the best token
	TopK        int     // 0 for 40
	TopP        float32 // 0 for 0.95
	Seed        uint32  // the same seed gives the same text
}

func (s Sampling) chain() *C.struct_llama_sampler {
	if s.TopK == 0 {
		s.TopK = 40
	}
	if s.TopP == 0 {
		s.TopP = 0.95
	}
	chain := C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
	if s.Temperature <= 0 {
		C.llama_sampler_chain_add(chain, C.llama_sampler_init_greedy())
		return chain
	}
	C.llama_sampler_chain_add(chain, C.llama_sampler_init_top_k(C.int32_t(s.TopK)))
	C.llama_sampler_chain_add(chain, C.llama_sampler_init_top_p(C.float(s.TopP), 1))
	C.llama_sampler_chain_add(chain, C.llama_sampler_init_temp(C.float(s.Temperature)))
	C.llama_sampler_chain_add(chain, C.llama_sampler_init_dist(C.uint32_t(s.Seed)))
	return chain
}

// Complete continues a text and hands it to emit piece by piece, never with half a character. It ends
// when the model ends, after MaxTokens, when the context is full, when ctx is done or when emit gives
// an error; the latter two are returned.
func (c *Context) Complete(ctx context.Context, prompt string, how Sampling, emit func(string) error) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.handle == nil {
		return ErrClosed
	}
	tokens, err := c.model.tokenize(prompt)
	if err != nil {
		return err
	}
	room := int(C.llama_n_ctx(c.handle))
	switch {
	case len(tokens) == 0:
		return errors.New("powerinfer: the prompt is empty")
	case len(tokens) > room:
		return fmt.Errorf("powerinfer: the prompt has %d tokens, the context has room for %d", len(tokens), room)
	}
	C.llama_memory_clear(C.llama_get_memory(c.handle), true)
	chain := how.chain()
	defer C.llama_sampler_free(chain)
	if how.MaxTokens == 0 {
		how.MaxTokens = 256
	}
	room -= len(tokens)
	var text []byte
	for n := 0; n < how.MaxTokens; n++ {
		if err := c.decode(ctx, tokens); err != nil {
			return err
		}
		token := Token(C.llama_sampler_sample(chain, c.handle, -1))
		if C.llama_vocab_is_eog(c.model.vocab, C.llama_token(token)) {
			break
		}
		text = c.model.piece(text, token)
		if whole := wholeCharacters(text); whole > 0 {
			if err := emit(string(text[:whole])); err != nil {
				return err
			}
			text = text[whole:]
		}
		if room == 0 {
			break
		}
		room--
		tokens = []Token{token}
	}
	if len(text) > 0 {
		return emit(string(text))
	}
	return nil
}

// decode computes tokens, in batches that the context takes.
func (c *Context) decode(ctx context.Context, tokens []Token) error {
	atOnce := int(C.llama_n_batch(c.handle))
	for len(tokens) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := tokens
		if len(part) > atOnce {
			part = part[:atOnce]
		}
		var reason C.struct_reason
		status := C.call_decode_next(c.handle, (*C.llama_token)(&part[0]), C.int32_t(len(part)), &reason)
		if status != 0 {
			return failure(fmt.Sprintf("llama_decode gave %d", status), &reason)
		}
		tokens = tokens[len(part):]
	}
	return nil
}

// wholeCharacters is the length without the beginning of a character at the end.
func wholeCharacters(text []byte) int {
	for i := len(text) - 1; i >= 0 && len(text)-i < utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}
