// Command complete continues a text: complete -m model.gguf [-n 128] [-temp 0.8] [-chat] PROMPT
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

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
	n := flag.Int("n", 128, "most tokens")
	temperature := flag.Float64("temp", 0.8, "0 takes the best token each time")
	seed := flag.Uint("seed", 1, "the same seed gives the same text")
	chat := flag.Bool("chat", false, "the prompt is a question")
	flag.Parse()
	if *path == "" || flag.NArg() != 1 {
		return fmt.Errorf("usage: complete -m model.gguf [flags] \"prompt\"")
	}
	prompt := flag.Arg(0)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	model, err := powerinfer.Load(*path, powerinfer.ModelOptions{})
	if err != nil {
		return err
	}
	defer model.Close()
	conversation, err := model.NewContext(powerinfer.ContextOptions{Tokens: 2048})
	if err != nil {
		return err
	}
	defer conversation.Close()
	if *chat {
		if prompt, err = model.Chat([]powerinfer.Message{{Role: "user", Content: prompt}}); err != nil {
			return err
		}
	} else {
		fmt.Print(prompt)
	}
	how := powerinfer.Sampling{MaxTokens: *n, Temperature: float32(*temperature), Seed: uint32(*seed)}
	err = conversation.Complete(ctx, prompt, how, func(text string) error {
		_, err := os.Stdout.WriteString(text)
		return err
	})
	fmt.Println()
	return err
}
