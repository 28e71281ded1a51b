package main

import (
	"encoding/json"
	"fmt"
)

// text is a documented text. Go reads null as "", which hides a fault; this type does not.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	if len(raw) == 0 || raw[0] != '"' {
		return fmt.Errorf("text is documented, %.40s was sent", raw)
	}
	return json.Unmarshal(raw, (*string)(t))
}

type workflow struct {
	ID            text      `json:"id"`
	CreatedAt     text      `json:"created_at"`
	UpdatedAt     text      `json:"updated_at"`
	Name          text      `json:"name"`
	Description   text      `json:"description"`
	Schema        text      `json:"schema"`
	Country       text      `json:"country"`
	Version       text      `json:"version"`
	Hash          text      `json:"hash"`
	Steps         []step    `json:"steps"`
	Rescue        []step    `json:"rescue"`
	Draft         bool      `json:"draft"`
	Disabled      bool      `json:"disabled"`
	Versions      []version `json:"versions"`
	NextCreatedAt text      `json:"next_created_at"`
}

type version struct {
	Version   text `json:"version"`
	Name      text `json:"name"`
	Hash      text `json:"hash"`
	CreatedAt text `json:"created_at"`
	At        text `json:"at"`
	Signed    bool `json:"signed"`
}

type step struct {
	ID       text            `json:"id"`
	Name     text            `json:"name"`
	Action   string          `json:"action,omitempty"`
	Provider string          `json:"provider,omitempty"`
	Notes    string          `json:"notes,omitempty"`
	Summary  string          `json:"summary,omitempty"`
	Config   json.RawMessage `json:"config,omitempty"`
	Next     []next          `json:"next,omitempty"`
}

type next struct {
	Status string `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
	StepID string `json:"step_id,omitempty"`
	Steps  []step `json:"steps,omitempty"`
	Stop   bool   `json:"stop,omitempty"`
}

type workflows struct {
	List          []workflow `json:"list"`
	Limit         int32      `json:"limit"`
	CreatedAt     text       `json:"created_at"`
	NextCreatedAt text       `json:"next_created_at"`
	Schema        text       `json:"schema"`
}

type newWorkflow struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Schema      string `json:"schema,omitempty"`
	Country     string `json:"country,omitempty"`
	Steps       []step `json:"steps"`
}

type entry struct {
	ID        text              `json:"id"`
	CreatedAt text              `json:"created_at"`
	UpdatedAt text              `json:"updated_at"`
	Key       text              `json:"key"`
	Folder    text              `json:"folder"`
	State     text              `json:"state"`
	Faults    []fault           `json:"faults"`
	Signed    bool              `json:"signed"`
	Invalid   bool              `json:"invalid"`
	EnvSchema text              `json:"env_schema"`
	DocSchema text              `json:"doc_schema"`
	Digest    map[string]text   `json:"digest"`
	Tags      []text            `json:"tags"`
	Context   text              `json:"context"`
	Version   text              `json:"version"`
	Versions  []version         `json:"versions"`
	Files     []file            `json:"attachments"`
	Data      json.RawMessage   `json:"data"`
	Meta      []json.RawMessage `json:"meta"`
}

type entries struct {
	List       []entry `json:"list"`
	Folder     text    `json:"folder"`
	CreatedAt  text    `json:"created_at"`
	Limit      int32   `json:"limit"`
	Cursor     text    `json:"cursor"`
	NextCursor text    `json:"next_cursor"`
}

type newEntry struct {
	Key         string          `json:"key,omitempty"`
	Folder      string          `json:"folder,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	PreviousID  string          `json:"previous_id,omitempty"`
	ContentType string          `json:"content_type,omitempty"`
}

type changedEntry struct {
	Folder      string          `json:"folder,omitempty"`
	ContentType string          `json:"content_type,omitempty"`
	Data        json.RawMessage `json:"data"`
}

type entryVersion struct {
	Version text            `json:"version"`
	Data    json.RawMessage `json:"data"`
}

type file struct {
	ID         text            `json:"id"`
	EntryID    text            `json:"entry_id"`
	CreatedAt  text            `json:"created_at"`
	Name       text            `json:"name"`
	Desc       text            `json:"desc"`
	Key        text            `json:"key"`
	Category   text            `json:"category"`
	Hash       text            `json:"hash"`
	MIME       text            `json:"mime"`
	Size       int32           `json:"size"`
	Stored     bool            `json:"stored"`
	Embeddable bool            `json:"embeddable"`
	Private    bool            `json:"private"`
	URL        text            `json:"url"`
	Meta       map[string]text `json:"meta"`
	Previous   []version       `json:"previous"`
}

type newFile struct {
	Name     string            `json:"name"`
	Desc     string            `json:"desc,omitempty"`
	Key      string            `json:"key,omitempty"`
	Category string            `json:"category,omitempty"`
	Data     []byte            `json:"data,omitempty"`
	SHA256   string            `json:"sha256,omitempty"`
	Size     int32             `json:"size,omitempty"`
	MIME     string            `json:"mime,omitempty"`
	Meta     map[string]string `json:"meta,omitempty"`
}

type state struct {
	ID        text            `json:"id"`
	CreatedAt text            `json:"created_at"`
	Key       text            `json:"key"`
	Notes     text            `json:"notes"`
	Faults    []fault         `json:"faults"`
	Meta      map[string]text `json:"meta"`
}

type states struct {
	List []state `json:"list"`
}

type fault struct {
	Provider text   `json:"provider"`
	Code     text   `json:"code"`
	Message  text   `json:"message"`
	Paths    []text `json:"paths"`
}

type job struct {
	ID          text            `json:"id"`
	CreatedAt   text            `json:"created_at"`
	UpdatedAt   text            `json:"updated_at"`
	CompletedAt text            `json:"completed_at"`
	SiloEntryID text            `json:"silo_entry_id"`
	WorkflowID  text            `json:"workflow_id"`
	Key         text            `json:"key"`
	Args        map[string]text `json:"args"`
	Tags        []text          `json:"tags"`
	Status      text            `json:"status"`
	Intents     []intent        `json:"intents"`
	Faults      []fault         `json:"faults"`
	Envelope    json.RawMessage `json:"envelope"`
	Files       []file          `json:"attachments"`
}

type intent struct {
	ID        text    `json:"id"`
	CreatedAt text    `json:"created_at"`
	UpdatedAt text    `json:"updated_at"`
	StepID    text    `json:"step_id"`
	Name      text    `json:"name"`
	Provider  text    `json:"provider"`
	Events    []event `json:"events"`
	Completed bool    `json:"completed"`
}

type event struct {
	Index   int32           `json:"index"`
	Status  text            `json:"status"`
	At      text            `json:"at"`
	Code    text            `json:"code"`
	Args    map[string]text `json:"args"`
	Message text            `json:"message"`
}

type jobs struct {
	List       []job `json:"list"`
	CreatedAt  text  `json:"created_at"`
	Limit      int32 `json:"limit"`
	Cursor     text  `json:"cursor"`
	NextCursor text  `json:"next_cursor"`
}

type newJob struct {
	WorkflowID  string            `json:"workflow_id"`
	SiloEntryID string            `json:"silo_entry_id,omitempty"`
	Data        json.RawMessage   `json:"data,omitempty"`
	Key         string            `json:"key,omitempty"`
	Args        map[string]string `json:"args,omitempty"`
	Tags        []string          `json:"tags,omitempty"`
}

type newEvent struct {
	ID      string `json:"id,omitempty"`
	JobID   string `json:"job_id,omitempty"`
	Ref     string `json:"ref,omitempty"`
	Status  string `json:"status"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// apiError is an error answer: its fields are a nested map of messages.
type apiError struct {
	Status  int    `json:"-"`
	Code    text   `json:"code"`
	Message text   `json:"message"`
	Fields  fields `json:"fields"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%d: (%s) %s", e.Status, e.Code, e.Message) }

// fields has a message or further fields by name.
type fields map[string]json.RawMessage
