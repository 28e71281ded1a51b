package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// client makes calls as the vendor's documentation has them: JSON in and out, a bearer token.
type client struct {
	base, token string
}

// call sends a request. out is nil, or where the JSON of a success goes.
func (c *client) call(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	return c.send(method, path, "application/json", body, out)
}

func (c *client) send(method, path, kind string, body io.Reader, out any) error {
	answer, err := c.open(method, c.base+path, kind, body, c.token)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if out == nil {
		return nil
	}
	if got, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); got != "application/json" {
		return fmt.Errorf("%s %s: the answer is %q", method, path, got)
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// open sends a request and returns the answer of a success. With an empty token no header says who calls.
func (c *client) open(method, url, kind string, body io.Reader, token string) (*http.Response, error) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", kind)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	fault := &apiError{Status: answer.StatusCode}
	if err := json.NewDecoder(answer.Body).Decode(fault); err != nil {
		return nil, fmt.Errorf("%s %s: %d: %w", method, url, answer.StatusCode, err)
	}
	return nil, fault
}

// download reads the bytes behind a URL, and the name that the answer gives them.
func (c *client) download(url, token string) (content []byte, name string, err error) {
	answer, err := c.open(http.MethodGet, url, "", nil, token)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	_, parts, err := mime.ParseMediaType(answer.Header.Get("Content-Disposition"))
	if err != nil {
		return nil, "", err
	}
	content, err = io.ReadAll(answer.Body)
	return content, parts["filename"], err
}

// newID makes a UUID of version 7.
func newID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic(err)
	}
	for n, ms := 5, time.Now().UnixMilli(); n >= 0; n, ms = n-1, ms>>8 {
		id[n] = byte(ms)
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:])
}
