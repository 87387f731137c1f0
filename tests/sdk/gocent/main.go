// Command gocent calls the HTTP API of a gateway with the client library gocent 3: one call a line on standard input,
// one answer a line on standard output. Arguments: the address of the API and its key.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/gocent/v3"
)

// call has the method to call and its arguments.
type call struct {
	Method      string                 `json:"method"`
	Channel     string                 `json:"channel"`
	Channels    []string               `json:"channels"`
	User        string                 `json:"user"`
	Client      string                 `json:"client"`
	Data        json.RawMessage        `json:"data"`
	Info        json.RawMessage        `json:"info"`
	SkipHistory bool                   `json:"skip_history"`
	Presence    bool                   `json:"presence"`
	Limit       int                    `json:"limit"`
	Reverse     bool                   `json:"reverse"`
	Since       *gocent.StreamPosition `json:"since"`
	Disconnect  *gocent.Disconnect     `json:"disconnect"`
	Whitelist   []string               `json:"whitelist"`
	Pattern     string                 `json:"pattern"`
	Count       int                    `json:"count"`
}

// answer has the result of a call, or its error.
type answer struct {
	Result any           `json:"result,omitempty"`
	Error  *gocent.Error `json:"error,omitempty"`
	Status int           `json:"status,omitempty"`
	Text   string        `json:"text,omitempty"`
}

// run makes one call.
func run(ctx context.Context, client *gocent.Client, c call) (any, error) {
	switch c.Method {
	case "publish":
		return client.Publish(ctx, c.Channel, c.Data, gocent.WithSkipHistory(c.SkipHistory))
	case "broadcast":
		return client.Broadcast(ctx, c.Channels, c.Data, gocent.WithSkipHistory(c.SkipHistory))
	case "subscribe":
		return nil, client.Subscribe(ctx, c.Channel, c.User, gocent.WithSubscribeInfo(c.Info),
			gocent.WithSubscribeData(c.Data), gocent.WithSubscribeClient(c.Client), gocent.WithPresence(c.Presence),
			gocent.WithRecoverSince(c.Since))
	case "unsubscribe":
		return nil, client.Unsubscribe(ctx, c.Channel, c.User, gocent.WithUnsubscribeClient(c.Client))
	case "disconnect":
		return nil, client.Disconnect(ctx, c.User, gocent.WithDisconnect(c.Disconnect),
			gocent.WithDisconnectClient(c.Client), gocent.WithDisconnectClientWhitelist(c.Whitelist))
	case "presence":
		return client.Presence(ctx, c.Channel)
	case "presence_stats":
		return client.PresenceStats(ctx, c.Channel)
	case "history":
		return client.History(ctx, c.Channel, gocent.WithLimit(c.Limit), gocent.WithReverse(c.Reverse),
			gocent.WithSince(c.Since))
	case "history_remove":
		return nil, client.HistoryRemove(ctx, c.Channel)
	case "channels":
		return client.Channels(ctx, gocent.WithPattern(c.Pattern))
	case "info":
		return client.Info(ctx)
	case "pipe":
		return pipe(ctx, client, c)
	}
	return nil, fmt.Errorf("no call %q", c.Method)
}

// pipe sends numbers to a channel in one request, with a publish in their middle that is refused.
func pipe(ctx context.Context, client *gocent.Client, c call) (any, error) {
	pipe := client.Pipe()
	for number := 0; number < c.Count; number++ {
		if number == c.Count/2 {
			if err := pipe.AddPublish("two words", []byte("0")); err != nil {
				return nil, err
			}
		}
		if err := pipe.AddPublish(c.Channel, []byte(fmt.Sprint(number))); err != nil {
			return nil, err
		}
	}
	return client.SendPipe(ctx, pipe)
}

func main() {
	client := gocent.New(gocent.Config{
		Addr:       os.Args[1],
		Key:        os.Args[2],
		HTTPClient: &http.Client{Timeout: time.Minute},
	})
	lines := bufio.NewScanner(os.Stdin)
	encoder := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		var said answer
		var err error
		var status gocent.ErrStatusCode
		if said.Result, err = run(context.Background(), client, c); err != nil {
			said.Text = err.Error()
			if !errors.As(err, &said.Error) && errors.As(err, &status) {
				said.Status = status.Code
			}
		}
		if err := encoder.Encode(said); err != nil {
			panic(err)
		}
	}
}
