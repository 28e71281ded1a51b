// A worker in Go: takes tasks of one action, keeps their leases, reports how they ended.
// Usage: go run . BOOTSTRAP ACTION. The protocol is described in contracts/PROTOCOL.md.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// attempt is what fences a report: it counts only while this attempt holds this lease.
type attempt struct {
	JobID    string  `json:"job_id"`
	TenantID string  `json:"tenant_id"`
	FileID   *string `json:"file_id,omitempty"`
	Step     string  `json:"step"`
	Action   string  `json:"action"`
	Attempt  int     `json:"attempt"`
	Lease    string  `json:"lease"`
}

type task struct {
	attempt
	Config     map[string]any `json:"config"`
	TimeoutS   float64        `json:"timeout_s"`
	HeartbeatS float64        `json:"heartbeat_s"`
}

// outcome is how a task ends: OK with a result, KO (it can never work) or ERR (it is tried again) with a code and a message.
type outcome struct {
	Status  string         `json:"status"`
	Result  map[string]any `json:"result,omitempty"`
	Code    string         `json:"code,omitempty"`
	Message string         `json:"message,omitempty"`
}

const remembered = 10_000 // cancellations

var errFailed = errors.New("KO")

// shout is your code. It returns the step's result; an error that wraps errFailed is a KO, any other an ERR.
func shout(ctx context.Context, t task) (map[string]any, error) {
	text, _ := t.Config["text"].(string)
	if text == "" {
		return nil, fmt.Errorf("%w: the step's configuration has no text", errFailed)
	}
	takes, _ := t.Config["takes_s"].(float64)
	select {
	case <-time.After(seconds(takes)):
		return map[string]any{"shout": strings.ToUpper(text)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type worker struct {
	name   string
	client *kgo.Client

	mutex     sync.Mutex
	cancelled map[string]bool
	order     []string // of the cancelled leases, oldest first
	lease     string   // of the task that runs
	stop      context.CancelFunc
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: worker BOOTSTRAP ACTION")
	}
	brokers, action := connection(os.Args[1]), os.Args[2]
	earliest := kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())
	// franz-go writes idempotently with acks=all unless told otherwise. Round robin is what aiokafka's members speak too.
	client, err := kgo.NewClient(append(brokers, earliest, kgo.ConsumeTopics("stage.tasks."+action), kgo.ConsumerGroup("workers."+action),
		kgo.DisableAutoCommit(), kgo.Balancers(kgo.RoundRobinBalancer()), kgo.SessionTimeout(10*time.Second),
		kgo.ProducerBatchCompression(kgo.NoCompression()))...) // reports are small
	if err != nil {
		log.Fatal(err)
	}
	// No group: every worker reads every cancellation, and the one that runs the task stops it.
	notes, err := kgo.NewClient(append(brokers, earliest, kgo.ConsumeTopics("stage.cancellations"))...)
	if err != nil {
		log.Fatal(err)
	}
	ctx, end := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer end()
	w := &worker{name: fmt.Sprintf("go-%d", os.Getpid()), client: client, cancelled: map[string]bool{}}
	go w.watchCancellations(ctx, notes)
	fmt.Println("ready")
	w.work(ctx)
	client.LeaveGroup()
	client.Close()
	notes.Close()
}

// connection names the brokers, and the user of `stageline env`, which sets KAFKA_*.
func connection(bootstrap string) []kgo.Opt {
	options := []kgo.Opt{kgo.SeedBrokers(strings.Split(bootstrap, ",")...)}
	protocol := os.Getenv("KAFKA_SECURITY_PROTOCOL")
	if strings.HasPrefix(protocol, "SASL") {
		user := scram.Auth{User: os.Getenv("KAFKA_SASL_USERNAME"), Pass: os.Getenv("KAFKA_SASL_PASSWORD")}
		options = append(options, kgo.SASL(user.AsSha512Mechanism()))
	}
	if strings.HasSuffix(protocol, "SSL") {
		options = append(options, kgo.DialTLS())
	}
	return slices.Clip(options) // so that two clients do not append to the same memory
}

// work does one task at a time. A stop lets the task that runs end; the offset is committed after its report.
func (w *worker) work(ctx context.Context) {
	for ctx.Err() == nil {
		fetched := w.client.PollRecords(ctx, 1)
		fetched.EachError(func(topic string, _ int32, err error) {
			if ctx.Err() == nil {
				log.Printf("%s: %v", topic, err)
			}
		})
		fetched.EachRecord(func(record *kgo.Record) {
			if err := w.one(record); err != nil {
				// Not committed: after the restart the task is delivered again.
				log.Fatalf("the report of a task could not be sent: %v", err)
			}
			if err := w.client.CommitRecords(context.Background(), record); err != nil {
				log.Printf("not committed, the task may come again: %v", err)
			}
		})
	}
}

func (w *worker) one(record *kgo.Record) error {
	var t task
	if err := json.Unmarshal(record.Value, &t); err != nil || t.Lease == "" {
		log.Printf("a task that cannot be read is left to its lease: %v", err)
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), seconds(t.TimeoutS))
	defer stop()
	if !w.begin(t.Lease, stop) {
		return nil
	}
	trace := header(record, "traceparent")
	beating, done := context.WithCancel(ctx)
	go w.beat(beating, t, trace)
	result, err := shout(ctx, t)
	done()
	if w.ended(t.Lease) {
		return nil // cancelled: nobody wants a report
	}
	return w.report(t.attempt, "end", trace, ending(ctx, t, result, err))
}

func ending(ctx context.Context, t task, result map[string]any, err error) outcome {
	switch {
	case err == nil:
		return outcome{Status: "OK", Result: result}
	case errors.Is(err, errFailed):
		return outcome{Status: "KO", Code: "failed", Message: err.Error()}
	case ctx.Err() != nil:
		return outcome{Status: "ERR", Code: "limit_time", Message: fmt.Sprintf("It took longer than %.0f s.", t.TimeoutS)}
	default:
		return outcome{Status: "ERR", Code: "worker_error", Message: err.Error()}
	}
}

// beat sends a RUN report per heartbeat; each extends the lease.
func (w *worker) beat(ctx context.Context, t task, trace string) {
	ticker := time.NewTicker(seconds(t.HeartbeatS))
	defer ticker.Stop()
	for number := 1; ; number++ {
		select {
		case <-ticker.C:
			if err := w.report(t.attempt, fmt.Sprint("beat-", number), trace, outcome{Status: "RUN"}); err != nil {
				log.Printf("a heartbeat was not sent: %v", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// report returns when Kafka has the report. Its id comes from the lease, so the same report sent twice counts once.
func (w *worker) report(a attempt, role, trace string, said outcome) error {
	hash := sha256.Sum256([]byte(strings.Join([]string{a.Lease, w.name, role}, "\x1f")))
	id, now := fmt.Sprintf("%x", hash[:16]), time.Now().UTC().Format(time.RFC3339Nano)
	value, err := json.Marshal(struct {
		attempt
		outcome
		ReportID   string `json:"report_id"`
		ReportedAt string `json:"reported_at"`
		Worker     string `json:"worker"`
		Client     string `json:"client"`
	}{a, said, id, now, w.name, "acme/1.0"})
	if err != nil {
		return err
	}
	record := &kgo.Record{Topic: "stage.reports", Key: []byte(a.JobID), Value: value, Headers: []kgo.RecordHeader{
		{Key: "content-type", Value: []byte("application/json")}, {Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte("/acme/worker")},
		{Key: "ce_type", Value: []byte("stageline.stage.report.v1")}, {Key: "ce_time", Value: []byte(now)},
		{Key: "ce_subject", Value: []byte(a.JobID)},
	}}
	if trace != "" {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte(trace)})
	}
	return w.client.ProduceSync(context.Background(), record).FirstErr()
}

func (w *worker) watchCancellations(ctx context.Context, notes *kgo.Client) {
	for ctx.Err() == nil {
		notes.PollFetches(ctx).EachRecord(func(record *kgo.Record) {
			var note attempt
			if json.Unmarshal(record.Value, &note) == nil {
				w.cancel(note.Lease)
			}
		})
	}
}

func (w *worker) cancel(lease string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.cancelled[lease] = true
	if w.order = append(w.order, lease); len(w.order) > remembered {
		delete(w.cancelled, w.order[0])
		w.order = w.order[1:]
	}
	if w.lease == lease {
		w.stop()
	}
}

// begin notes the task that runs. False when its lease is cancelled already.
func (w *worker) begin(lease string, stop context.CancelFunc) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.lease, w.stop = lease, stop
	return !w.cancelled[lease]
}

// ended forgets the task that ran. True when it was cancelled.
func (w *worker) ended(lease string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.lease = ""
	return w.cancelled[lease]
}

func header(record *kgo.Record, name string) string {
	for _, h := range record.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
