package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"
)

var flows = []trial{
	{"Transform.Workflows.Create", func(s *session) error {
		s.flow, s.step = newID(), newID()
		var empty, got workflow
		if err := s.call("PUT", path.Join("/transform/v1/workflows", newID()), newWorkflow{Name: "Empty"}, &empty); err != nil {
			return err
		}
		if err := check(empty.Draft && len(empty.Steps) == 0 && empty.Version != "", "no steps", empty); err != nil {
			return err
		}
		steps := []step{{ID: text(s.step), Name: "Only", Provider: "noop"}}
		body := newWorkflow{Name: "Flow", Schema: "bill/invoice", Country: "ES", Steps: steps}
		if err := s.call("PUT", path.Join("/transform/v1/workflows", s.flow), body, &got); err != nil {
			return err
		}
		return check(string(got.ID) == s.flow && got.Version == "1" && got.Hash != "" && len(got.Versions) == 1, "created", got)
	}},
	{"Transform.Workflows.Fetch", func(s *session) error {
		var got workflow
		if err := s.call("GET", path.Join("/transform/v1/workflows", s.flow), nil, &got); err != nil {
			return err
		}
		return check(got.Name == "Flow" && len(got.Steps) == 1 && string(got.Steps[0].ID) == s.step, "fetched", got)
	}},
	{"Transform.Workflows.Update", func(s *session) error {
		var got workflow
		if err := s.call("PATCH", path.Join("/transform/v1/workflows", s.flow), newWorkflow{Name: "Renamed"}, &got); err != nil {
			return err
		}
		return check(got.Name == "Renamed" && len(got.Steps) == 1, "updated", got)
	}},
	{"Transform.Workflows.List", func(s *session) error {
		var all, first, second workflows
		if err := s.call("GET", "/transform/v1/workflows", nil, &all); err != nil {
			return err
		}
		if err := s.call("GET", "/transform/v1/workflows?limit=1", nil, &first); err != nil {
			return err
		}
		query := url.Values{"created_at": {string(first.NextCreatedAt)}}
		if err := s.call("GET", "/transform/v1/workflows?"+query.Encode(), nil, &second); err != nil {
			return err
		}
		ok := len(first.List) == 1 && len(second.List) > 0 && len(all.List) > 1 && first.CreatedAt != "" && all.Limit > 0
		return check(ok && first.List[0].ID == all.List[0].ID && second.List[0].ID == all.List[1].ID, "pages", second)
	}},
}

// done says whether a job has ended, and why it failed: its status counts, the last event of its last intent gives the reason.
func done(j job) (bool, error) {
	if j.CompletedAt == "" {
		return false, nil
	}
	if j.Status != "KO" {
		return true, nil
	}
	last := j.Intents[len(j.Intents)-1]
	event := last.Events[len(last.Events)-1]
	return true, fmt.Errorf("step %s: %s %s", last.StepID, event.Status, event.Message)
}

func created(s *session, body newJob) (job, error) {
	var got job
	err := s.call("PUT", path.Join("/transform/v1/jobs", newID())+"?wait=60", body, &got)
	return got, err
}

var jobsOf = []trial{
	{"Transform.Jobs.Create", func(s *session) error {
		s.key = "job/" + newID()
		body := newJob{WorkflowID: s.flow, SiloEntryID: s.entry, Key: s.key, Args: map[string]string{"source": "shop"}, Tags: []string{"may"}}
		got, err := created(s, body)
		if err != nil {
			return err
		}
		s.job = string(got.ID)
		ended, failed := done(got)
		ok := ended && failed == nil && got.Status == "OK" && string(got.SiloEntryID) == s.entry && got.Args["source"] == "shop"
		if err := check(ok && len(got.Intents) == 1 && string(got.Intents[0].StepID) == s.step && len(got.Files) == 3, "created", got); err != nil {
			return err
		}
		for _, f := range got.Files {
			if _, _, err := s.download(string(f.URL), ""); err != nil {
				return err
			}
		}
		var posted job
		if err := s.call("POST", "/transform/v1/jobs", newJob{WorkflowID: s.flow, Data: envelope}, &posted); err != nil {
			return err
		}
		return check(posted.ID != "", "posted", posted)
	}},
	{"Transform.Jobs.Fetch", func(s *session) error {
		for _, id := range []string{s.job, strings.ToUpper(s.job)} {
			var got job
			if err := s.call("GET", path.Join("/transform/v1/jobs", id), nil, &got); err != nil {
				return err
			}
			if err := check(string(got.ID) == s.job && len(got.Envelope) > 2 && got.UpdatedAt != "", "fetched", got); err != nil {
				return err
			}
		}
		return nil
	}},
	{"Transform.Jobs.FetchByKey", func(s *session) error {
		for _, key := range []string{s.key, url.PathEscape(s.key)} {
			var got job
			if err := s.call("GET", path.Join("/transform/v1/jobs/key", key), nil, &got); err != nil {
				return err
			}
			if err := check(string(got.ID) == s.job, "fetched", got); err != nil {
				return err
			}
		}
		return nil
	}},
	{"Transform.Jobs.List", func(s *session) error {
		var first, second jobs
		query := url.Values{"limit": {"1"}, "created_at": {"2090-01-01T00:00:00.000Z"}}
		if err := s.call("GET", "/transform/v1/jobs?"+query.Encode(), nil, &first); err != nil {
			return err
		}
		query = url.Values{"limit": {"1"}, "cursor": {string(first.NextCursor)}}
		if err := s.call("GET", "/transform/v1/jobs?"+query.Encode(), nil, &second); err != nil {
			return err
		}
		return check(len(first.List) == 1 && len(second.List) == 1 && first.List[0].ID != second.List[0].ID, "pages", second)
	}},
	{"Transform.Jobs.Done", func(s *session) error {
		broken := step{ID: text(newID()), Name: "Check", Action: "test.outcome", Config: json.RawMessage(`{"fail":"KO"}`)}
		flow := newID()
		body := map[string]any{"name": "Rescued", "steps": []step{broken}, "rescue": []step{{ID: text(newID()), Name: "Undo", Action: "noop"}}}
		if err := s.call("PUT", path.Join("/transform/v1/workflows", flow), body, &workflow{}); err != nil {
			return err
		}
		got, err := created(s, newJob{WorkflowID: flow, Data: envelope})
		if err != nil {
			return err
		}
		ended, failed := done(got)
		ok := ended && failed != nil && strings.Contains(failed.Error(), "asks for this failure") && len(got.Faults) == 1
		return check(ok, fmt.Sprintf("after a rescue: %v", failed), got)
	}},
	{"Transform.Jobs.UpdateIntent", func(s *session) error {
		var waiting job
		if err := s.call("POST", "/transform/v1/jobs", newJob{WorkflowID: "test-approval", Data: envelope}, &waiting); err != nil {
			return err
		}
		target := path.Join("/transform/v1/jobs", string(waiting.ID))
		for n := 0; n < 200 && (len(waiting.Intents) == 0 || waiting.Intents[len(waiting.Intents)-1].Name != "approve"); n++ {
			if err := s.call("GET", target+"?wait=1", nil, &waiting); err != nil {
				return err
			}
		}
		last := waiting.Intents[len(waiting.Intents)-1]
		var got intent
		poke := newEvent{ID: string(last.ID), JobID: string(waiting.ID), Status: "POKE", Message: "go on"}
		if err := s.call("POST", "/transform/v1/jobs/intents", poke, &got); err != nil {
			return err
		}
		return check(got.ID == last.ID, "poked", got)
	}},
	{"Transform.Jobs.PokeByRef", func(s *session) error {
		return s.call("POST", "/transform/v1/jobs/intents", newEvent{Ref: "ref-1", Status: "POKE"}, &intent{})
	}},
}
