// The calls of Invopop's Go client (v0.59.0) by their wire format, with strict types. Prints {"calls": [{"method", "result"}]} as JSON.
//
// INVOPOP_URL and INVOPOP_TOKEN name the service and a key of an admin.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

type outcome struct {
	Method string `json:"method"`
	Result string `json:"result"`
}

// trial makes one call and judges its answer.
type trial struct {
	method string
	run    func(*session) error
}

// session has what later calls need of earlier ones.
type session struct {
	*client
	flow, step, entry, key, file, upload, job string
	address                                   string
}

func main() {
	s := &session{client: &client{strings.TrimRight(os.Getenv("INVOPOP_URL"), "/"), os.Getenv("INVOPOP_TOKEN")}}
	var made []outcome
	for _, group := range [][]trial{utils, flows, silo, files, jobsOf, absent} {
		for _, t := range group {
			made = append(made, outcome{t.method, judged(t.run(s))})
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"calls": made}); err != nil {
		panic(err)
	}
}

// judged is "works", "differs: …" for a service that the answer says is not there, or "fails: …".
func judged(err error) string {
	var fault *apiError
	if err == nil {
		return "works"
	}
	if errors.As(err, &fault) && fault.Status == 404 && strings.HasPrefix(string(fault.Message), "There is no ") {
		return "differs: " + string(fault.Message)
	}
	if errors.As(err, &fault) && fault.Status == 422 && strings.Contains(string(fault.Message), "ref is not supported") {
		return "differs: references stay with their providers; name id and job_id"
	}
	return "fails: " + err.Error()
}

// check is an error unless ok.
func check(ok bool, what string, got any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s: %+v", what, got)
}

var utils = []trial{{"Utils.Ping", func(s *session) error {
	var got struct {
		Ping text `json:"ping"`
	}
	if err := s.call("GET", "/utils/v1/ping", nil, &got); err != nil {
		return err
	}
	return check(got.Ping == "pong", "ping", got)
}}}

// absent are the calls of services that only the vendor has.
var absent = []trial{
	gone("Silo.Search", "GET", "/silo/v1/search?q=invoice"),
	gone("Silo.Entries.Query", "GET", "/silo/v1/entries/query?schema=bill%2Finvoice"),
	gone("Silo.Entries.Count", "GET", "/silo/v1/entries/query/count?schema=bill%2Finvoice"),
	gone("Silo.Meta.Fetch", "GET", "/silo/v1/entries/e/meta/k"),
	gone("Silo.Meta.FetchByRef", "GET", "/silo/v1/entries/meta/k/ref"),
	gone("Silo.Meta.FetchByOwnerAndRef", "GET", "/silo/v1/entries/meta/k/ref?owned=true"),
	gone("Silo.Meta.Upsert", "PUT", "/silo/v1/entries/e/meta/k"),
	gone("Silo.Meta.Delete", "DELETE", "/silo/v1/entries/e/meta/k"),
	gone("Silo.GOBL.Build", "POST", "/silo/v1/gobl/build"),
	gone("Silo.GOBL.Sign", "POST", "/silo/v1/gobl/sign"),
	gone("Silo.Spool.Upload", "POST", "/silo/v1/spool"),
	gone("Silo.Spool.Download", "GET", "/silo/v1/spool/k"),
	gone("Silo.Spool.Delete", "DELETE", "/silo/v1/spool/k"),
	gone("Sequence.List", "GET", "/sequence/v1/series"),
	gone("Sequence.Fetch", "GET", "/sequence/v1/series/s"),
	gone("Sequence.Create", "PUT", "/sequence/v1/series/s"),
	gone("Sequence.FetchEntry", "GET", "/sequence/v1/series/s/entries/e"),
	gone("Sequence.CreateEntry", "PUT", "/sequence/v1/series/s/entries/e"),
	gone("Access.Enrollment.Authorize", "POST", "/access/v1/enrollment/authorize"),
	gone("Access.Enrollment.AuthorizeWithID", "POST", "/access/v1/enrollment/authorize"),
	gone("Access.Enrollment.AuthorizeWithOwnerID", "POST", "/access/v1/enrollment/authorize"),
	gone("Access.Enrollment.Fetch", "GET", "/access/v1/enrollment"),
	gone("Access.Enrollment.Update", "POST", "/access/v1/enrollment"),
	gone("Access.Workspace.Fetch", "GET", "/access/v1/workspace"),
	gone("Access.Org.Fetch", "GET", "/access/v1/orgs"),
	gone("Access.Session.Authorize", "POST", "/access/v1/enrollment/authorize"),
}

func gone(method, verb, path string) trial {
	return trial{method, func(s *session) error {
		var body any
		if verb == "POST" || verb == "PUT" {
			body = map[string]any{}
		}
		return s.call(verb, path, body, nil)
	}}
}
