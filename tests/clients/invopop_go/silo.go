package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"path"
)

const (
	envSchema = "https://gobl.org/draft-0/envelope"
	docSchema = "https://gobl.org/draft-0/bill/invoice"
)

var envelope = json.RawMessage(`{"$schema":"` + envSchema + `","doc":{"$schema":"` + docSchema + `","code":"42"}}`)

var silo = []trial{
	{"Silo.Entries.Create", func(s *session) error {
		s.entry, s.key = newID(), "2026/05/"+newID()
		var got, posted entry
		if err := s.call("PUT", path.Join("/silo/v1/entries", s.entry), newEntry{Key: s.key, Folder: "drafts", Data: envelope}, &got); err != nil {
			return err
		}
		if err := check(string(got.ID) == s.entry && got.EnvSchema == envSchema && got.DocSchema == docSchema, "created", got); err != nil {
			return err
		}
		if err := s.call("POST", "/silo/v1/entries", newEntry{PreviousID: s.entry}, &posted); err != nil {
			return err
		}
		return check(posted.ID != got.ID && bytes.Equal(posted.Data, got.Data), "copied", posted)
	}},
	{"Silo.Entries.Fetch", func(s *session) error {
		var got entry
		if err := s.call("GET", path.Join("/silo/v1/entries", s.entry), nil, &got); err != nil {
			return err
		}
		return check(string(got.Key) == s.key && got.Version != "" && got.Digest["val"] != "", "fetched", got)
	}},
	{"Silo.Entries.FetchByKey", func(s *session) error {
		for _, key := range []string{s.key, url.PathEscape(s.key)} {
			var got entry
			if err := s.call("GET", path.Join("/silo/v1/entries/key", key), nil, &got); err != nil {
				return err
			}
			if err := check(string(got.ID) == s.entry, "fetched", got); err != nil {
				return err
			}
		}
		return nil
	}},
	{"Silo.Entries.Update", func(s *session) error {
		patch := changedEntry{"sales", "application/merge-patch+json", json.RawMessage(`{"doc":{"code":"43"}}`)}
		var got, moved entry
		if err := s.call("PATCH", path.Join("/silo/v1/entries", s.entry), patch, &got); err != nil {
			return err
		}
		if err := s.call("PATCH", path.Join("/silo/v1/entries", s.entry), changedEntry{Folder: "sent"}, &moved); err != nil {
			return err
		}
		ok := bytes.Contains(got.Data, []byte(`"43"`)) && got.Folder == "sales" && moved.Folder == "sent"
		return check(ok && bytes.Equal(got.Data, moved.Data), "changed", moved)
	}},
	{"Silo.Entries.FetchVersion", func(s *session) error {
		var now entry
		var got entryVersion
		if err := s.call("GET", path.Join("/silo/v1/entries", s.entry), nil, &now); err != nil {
			return err
		}
		if err := s.call("GET", path.Join("/silo/v1/entries", s.entry, "versions", string(now.Version)), nil, &got); err != nil {
			return err
		}
		return check(got.Version == now.Version && bytes.Equal(got.Data, now.Data), "version", got)
	}},
	{"Silo.Entries.List", func(s *session) error {
		var first, second, sent entries
		if err := s.call("GET", "/silo/v1/entries?limit=1", nil, &first); err != nil {
			return err
		}
		query := url.Values{"limit": {"1"}, "cursor": {string(first.NextCursor)}}
		if err := s.call("GET", "/silo/v1/entries?"+query.Encode(), nil, &second); err != nil {
			return err
		}
		query = url.Values{"folder": {"sent"}, "created_at": {"2090-01-01T00:00:00.000Z"}}
		if err := s.call("GET", "/silo/v1/entries?"+query.Encode(), nil, &sent); err != nil {
			return err
		}
		ok := len(first.List) == 1 && len(second.List) == 1 && first.List[0].ID != second.List[0].ID && first.Limit == 1
		return check(ok && second.Cursor == first.NextCursor && len(sent.List) > 0 && sent.Folder == "sent" && sent.CreatedAt != "", "pages", sent)
	}},
	{"Silo.States.Create", func(s *session) error {
		at := "2036-05-01T10:00:00.000Z"
		for _, made := range []struct{ verb, at string }{{"POST", ""}, {"PUT", at}, {"PUT", at}} {
			var got state
			body := map[string]any{"key": "sent", "notes": "by post", "meta": map[string]string{"a": "b"}}
			if err := s.call(made.verb, path.Join("/silo/v1/entries", s.entry, "states", made.at), body, &got); err != nil {
				return err
			}
			if err := check(got.Key == "sent" && got.ID != "" && (made.at == "" || string(got.CreatedAt) == at), "state", got); err != nil {
				return err
			}
		}
		return nil
	}},
	{"Silo.States.List", func(s *session) error {
		var got states
		if err := s.call("GET", path.Join("/silo/v1/entries", s.entry, "states"), nil, &got); err != nil {
			return err
		}
		return check(len(got.List) == 3 && got.List[2].Notes == "by post", "states", got)
	}},
}

var content = []byte("<Invoice>hello</Invoice>")

// announced registers a file by its hash and size, as the client does before it sends the bytes.
func announced(s *session, name string) (file, error) {
	sum := sha256.Sum256(content)
	about := newFile{
		Name: name, Category: "format", Key: name, MIME: "application/xml", SHA256: hex.EncodeToString(sum[:]), Size: int32(len(content)),
		Meta: map[string]string{"made": "by test"},
	}
	var got file
	err := s.call("PUT", path.Join("/silo/v1/entries", s.entry, "files", newID()), about, &got)
	return got, err
}

func uploaded(s *session, id string) error {
	var got file
	target := path.Join("/silo/v1/entries", s.entry, "files", id, "data")
	if err := s.send("PUT", target, "application/xml", bytes.NewReader(content), &got); err != nil {
		return err
	}
	return check(got.Stored && string(got.ID) == id && got.Size == int32(len(content)), "uploaded", got)
}

var files = []trial{
	{"Silo.Files.Create", func(s *session) error {
		got, err := announced(s, "ubl.xml")
		if err != nil {
			return err
		}
		s.file = string(got.ID)
		var posted file
		if err := s.call("POST", path.Join("/silo/v1/entries", s.entry, "files"), newFile{Name: "inline", Data: content}, &posted); err != nil {
			return err
		}
		ok := !got.Stored && got.CreatedAt != "" && got.Hash != "" && posted.Stored && posted.MIME != ""
		return check(ok && got.Meta["made"] == "by test" && string(got.EntryID) == s.entry, "announced", got)
	}},
	{"Silo.Files.UploadData", func(s *session) error { return uploaded(s, s.file) }},
	{"Silo.Files.CreateAndUpload", func(s *session) error {
		got, err := announced(s, "second.xml")
		if err != nil {
			return err
		}
		if got.Stored {
			return check(false, "stored before its bytes came", got)
		}
		return uploaded(s, string(got.ID))
	}},
	{"Silo.Files.Download", func(s *session) error {
		got, name, err := s.download(s.base+path.Join("/silo/v1/entries", s.entry, "files", s.file), s.token)
		if err != nil {
			return err
		}
		return check(bytes.Equal(got, content) && name == "ubl.xml", "downloaded as "+name, string(got))
	}},
	{"Client.Download", func(s *session) error {
		var shown entry
		if err := s.call("GET", path.Join("/silo/v1/entries", s.entry), nil, &shown); err != nil {
			return err
		}
		for _, f := range shown.Files {
			got, name, err := s.download(string(f.URL), "")
			if err != nil {
				return err
			}
			if err := check(bytes.Equal(got, content) && name == string(f.Name), "downloaded as "+name, string(got)); err != nil {
				return err
			}
		}
		return check(len(shown.Files) == 3, "files", shown.Files)
	}},
}
