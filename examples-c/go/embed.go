package powerinfer

// #include "calls.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"unsafe"
)

// Pooling says how the embeddings of tokens become one of the text.
type Pooling int

// Ways of pooling; the zero value is the model's own.
const (
	PoolingOfModel Pooling = iota
	PoolingMean
	PoolingCLS
	PoolingLast
)

// EmbedOptions say what an embedder is like.
type EmbedOptions struct {
	Pooling Pooling
	Tokens  int // most tokens of a text; 0 for 512
	Threads int // 0 for one for each processor
}

// Embedder turns texts into vectors.
type Embedder struct {
	model  *Model
	tokens int
	mutex  sync.Mutex
	handle *C.struct_llama_context
}

// textsAtOnce is the most texts of a batch.
const textsAtOnce = 16

// NewEmbedder makes an embedder over the model.
func (m *Model) NewEmbedder(options EmbedOptions) (*Embedder, error) {
	if options.Tokens <= 0 {
		options.Tokens = 512
	}
	params := C.llama_context_default_params()
	params.n_ctx = C.uint32_t(options.Tokens)
	params.n_batch, params.n_ubatch = params.n_ctx, params.n_ctx
	params.n_seq_max = textsAtOnce
	params.kv_unified = true // a text may have all of the room
	params.n_threads, params.n_threads_batch = threads(options.Threads), threads(options.Threads)
	params.embeddings = true
	pooling := map[Pooling]C.enum_llama_pooling_type{
		PoolingOfModel: C.LLAMA_POOLING_TYPE_UNSPECIFIED,
		PoolingMean:    C.LLAMA_POOLING_TYPE_MEAN,
		PoolingCLS:     C.LLAMA_POOLING_TYPE_CLS,
		PoolingLast:    C.LLAMA_POOLING_TYPE_LAST,
	}
	kind, known := pooling[options.Pooling]
	if !known {
		return nil, fmt.Errorf("powerinfer: there is no pooling %d", options.Pooling)
	}
	params.pooling_type = kind
	handle, err := m.context(params)
	if err != nil {
		return nil, err
	}
	e := &Embedder{model: m, tokens: options.Tokens, handle: handle}
	if C.llama_pooling_type(handle) == C.LLAMA_POOLING_TYPE_NONE {
		e.Close()
		return nil, errors.New("powerinfer: the model has no pooling of its own: name one")
	}
	return e, nil
}

// Close frees the embedder, after the call that uses it now.
func (e *Embedder) Close() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.handle != nil {
		C.llama_free(e.handle)
		e.handle = nil
		e.model.release()
	}
}

// Embed gives a vector of length 1 for each text.
func (e *Embedder) Embed(texts ...string) ([][]float32, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.handle == nil {
		return nil, ErrClosed
	}
	vectors := make([][]float32, 0, len(texts))
	var waiting [][]Token
	n := 0
	for i, text := range texts {
		tokens, err := e.model.tokenize(text)
		if err != nil {
			return nil, err
		}
		if len(tokens) == 0 || len(tokens) > e.tokens {
			return nil, fmt.Errorf("powerinfer: text %d has %d tokens, not 1 to %d", i, len(tokens), e.tokens)
		}
		if len(waiting) == textsAtOnce || n+len(tokens) > e.tokens {
			if vectors, err = e.compute(vectors, waiting, n); err != nil {
				return nil, err
			}
			waiting, n = nil, 0
		}
		waiting, n = append(waiting, tokens), n+len(tokens)
	}
	if len(waiting) == 0 {
		return vectors, nil
	}
	return e.compute(vectors, waiting, n)
}

// compute appends the vectors of texts that together have n tokens: each is a sequence of one batch.
func (e *Embedder) compute(to [][]float32, texts [][]Token, n int) ([][]float32, error) {
	batch := C.llama_batch_init(C.int32_t(n), 0, 1)
	defer C.llama_batch_free(batch)
	batch.n_tokens = C.int32_t(n)
	token, pos := unsafe.Slice(batch.token, n), unsafe.Slice(batch.pos, n)
	nSeq, seq := unsafe.Slice(batch.n_seq_id, n), unsafe.Slice(batch.seq_id, n)
	outputs := unsafe.Slice(batch.logits, n)
	at := 0
	for s, tokens := range texts {
		for i, t := range tokens {
			token[at], pos[at] = C.llama_token(t), C.llama_pos(i)
			nSeq[at], *seq[at] = 1, C.llama_seq_id(s)
			outputs[at] = 1
			at++
		}
	}
	if memory := C.llama_get_memory(e.handle); memory != nil {
		C.llama_memory_clear(memory, true)
	}
	var reason C.struct_reason
	if status := C.call_decode(e.handle, batch, &reason); status != 0 {
		return nil, failure(fmt.Sprintf("llama_decode gave %d", status), &reason)
	}
	width := int(C.llama_model_n_embd(e.model.handle))
	for s := range texts {
		row := C.llama_get_embeddings_seq(e.handle, C.llama_seq_id(s))
		if row == nil {
			return nil, errors.New("powerinfer: the model gives no embeddings")
		}
		vector := make([]float32, width)
		sum := 0.0
		for i, x := range unsafe.Slice((*float32)(unsafe.Pointer(row)), width) {
			vector[i] = x
			sum += float64(x) * float64(x)
		}
		if sum > 0 {
			scale := float32(1 / math.Sqrt(sum))
			for i := range vector {
				vector[i] *= scale
			}
		}
		to = append(to, vector)
	}
	return to, nil
}
