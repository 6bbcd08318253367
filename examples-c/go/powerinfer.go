// Package powerinfer is libpowerinfer for Go: it loads a model, streams completions and embeds texts.
//
//	model, err := powerinfer.Load("model.gguf", powerinfer.ModelOptions{})
//	defer model.Close()
//	context, err := model.NewContext(powerinfer.ContextOptions{Tokens: 2048})
//	defer context.Close()
//	err = context.Complete(ctx, "Once upon a time", powerinfer.Sampling{}, func(text string) error {
//		_, err := os.Stdout.WriteString(text)
//		return err
//	})
//
// A Model may be used by many goroutines at once. A Context or an Embedder does one thing at a time:
// others wait. Whatever is made has to be closed; the model's memory goes when the last of them is.
package powerinfer

// #include <stdlib.h>
// #include "calls.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// Token is an entry of a model's vocabulary.
type Token = int32

// ErrClosed is returned by methods of what was closed.
var ErrClosed = errors.New("powerinfer: closed")

var initialize sync.Once

// failure is an error with the reason that the library gave.
func failure(what string, reason *C.struct_reason) error {
	text := strings.TrimSpace(C.GoString(&reason.text[0]))
	if text == "" {
		return fmt.Errorf("powerinfer: %s", what)
	}
	return fmt.Errorf("powerinfer: %s: %s", what, text)
}

// ModelOptions say how a model is loaded. The zero value is the library's choice.
type ModelOptions struct {
	// GPULayers is the number of layers on the GPU; 0 for as many as fit, -1 for none.
	GPULayers int
}

// Model is a loaded model.
type Model struct {
	handle *C.struct_llama_model
	vocab  *C.struct_llama_vocab

	mutex  sync.Mutex
	users  int // contexts, and one until Close
	closed bool
}

// Load reads a GGUF file.
func Load(path string, options ModelOptions) (*Model, error) {
	initialize.Do(func() { C.calls_init() })
	params := C.llama_model_default_params()
	switch {
	case options.GPULayers > 0:
		params.n_gpu_layers = C.int32_t(options.GPULayers)
	case options.GPULayers < 0:
		params.n_gpu_layers = 0
	}
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var reason C.struct_reason
	handle := C.call_load(name, params, &reason)
	if handle == nil {
		return nil, failure("cannot load "+path, &reason)
	}
	return &Model{handle: handle, vocab: C.llama_model_get_vocab(handle), users: 1}, nil
}

// use keeps the model's memory until release.
func (m *Model) use() error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.users++
	return nil
}

func (m *Model) release() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.users--; m.users == 0 {
		C.llama_model_free(m.handle)
		m.handle = nil
	}
}

// Close gives the model back; its memory goes when its contexts are closed too.
func (m *Model) Close() {
	m.mutex.Lock()
	was := m.closed
	m.closed = true
	m.mutex.Unlock()
	if !was {
		m.release()
	}
}

// Tokenize splits a text into tokens, with what the vocabulary puts around it. Names of control tokens,
// such as "<|im_start|>", are read as these tokens.
func (m *Model) Tokenize(text string) ([]Token, error) {
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.release()
	return m.tokenize(text)
}

func (m *Model) tokenize(text string) ([]Token, error) {
	bytes := C.CString(text) // a copy, as long as len(text) whatever is in it
	defer C.free(unsafe.Pointer(bytes))
	// A token is a byte or more, and two may come around them.
	tokens := make([]Token, len(text)+2)
	n := C.llama_tokenize(m.vocab, bytes, C.int32_t(len(text)), (*C.llama_token)(&tokens[0]),
		C.int32_t(len(tokens)), true, true)
	if n < 0 {
		return nil, fmt.Errorf("powerinfer: cannot tokenize %d bytes of text", len(text))
	}
	return tokens[:n], nil
}

// piece appends the bytes of a token: perhaps only a part of a character.
func (m *Model) piece(to []byte, token Token) []byte {
	var room [64]byte
	buffer := room[:]
	n := C.llama_token_to_piece(m.vocab, C.llama_token(token), (*C.char)(unsafe.Pointer(&buffer[0])),
		C.int32_t(len(buffer)), 0, false)
	if n < 0 {
		buffer = make([]byte, -n)
		n = C.llama_token_to_piece(m.vocab, C.llama_token(token), (*C.char)(unsafe.Pointer(&buffer[0])),
			C.int32_t(len(buffer)), 0, false)
	}
	return append(to, buffer[:n]...)
}

// Message is a turn of a conversation.
type Message struct {
	Role    string // "system", "user", "assistant"
	Content string
}

// Chat lays a conversation out as the model was trained on, ready for the assistant's answer.
func (m *Model) Chat(messages []Message) (string, error) {
	if err := m.use(); err != nil {
		return "", err
	}
	defer m.release()
	size := C.size_t(len(messages)) * C.size_t(unsafe.Sizeof(C.struct_llama_chat_message{}))
	array := (*C.struct_llama_chat_message)(C.calloc(1, size+1))
	defer C.free(unsafe.Pointer(array))
	turns := unsafe.Slice(array, len(messages))
	room := 256
	for i, message := range messages {
		turns[i].role = C.CString(message.Role)
		defer C.free(unsafe.Pointer(turns[i].role))
		turns[i].content = C.CString(message.Content)
		defer C.free(unsafe.Pointer(turns[i].content))
		room += 2*len(message.Role+message.Content) + 64
	}
	template := C.llama_model_chat_template(m.handle, nil)
	for {
		text := make([]byte, room)
		n := int(C.llama_chat_apply_template(template, array, C.size_t(len(messages)), true,
			(*C.char)(unsafe.Pointer(&text[0])), C.int32_t(len(text))))
		switch {
		case n < 0:
			return "", errors.New("powerinfer: the library does not know the model's chat template")
		case n <= room:
			return string(text[:n]), nil
		}
		room = n
	}
}

func threads(n int) C.int32_t {
	if n <= 0 {
		n = runtime.NumCPU()
	}
	return C.int32_t(n)
}
