//go:build !powerinfer_flags

package powerinfer

// Without pkg-config: go build -tags powerinfer_flags, with CGO_CFLAGS=-I<folder of llama.h> and
// CGO_LDFLAGS="-L<folder> -lpowerinfer".

// #cgo pkg-config: powerinfer
import "C"
