// Command embed prints how alike texts are: embed -m model.gguf TEXT TEXT...
package main

import (
	"flag"
	"fmt"
	"os"

	"powerinfer.example/powerinfer"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	path := flag.String("m", "", "the model, a GGUF file")
	mean := flag.Bool("mean", false, "pool by the mean, whatever the model says")
	flag.Parse()
	texts := flag.Args()
	if *path == "" || len(texts) == 0 {
		return fmt.Errorf("usage: embed -m model.gguf [-mean] TEXT TEXT...")
	}
	model, err := powerinfer.Load(*path, powerinfer.ModelOptions{})
	if err != nil {
		return err
	}
	defer model.Close()
	options := powerinfer.EmbedOptions{}
	if *mean {
		options.Pooling = powerinfer.PoolingMean
	}
	embedder, err := model.NewEmbedder(options)
	if err != nil {
		return err
	}
	defer embedder.Close()
	vectors, err := embedder.Embed(texts...)
	if err != nil {
		return err
	}
	for i, a := range vectors {
		for _, b := range vectors {
			dot := float32(0) // of vectors of length 1: the cosine
			for k := range a {
				dot += a[k] * b[k]
			}
			fmt.Printf("%7.3f", dot)
		}
		fmt.Printf("  %s\n", texts[i])
	}
	return nil
}
