package streams_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"freshet/internal/kafka/kafkatest"
	"freshet/streams"
)

// readersVariable makes the test's program a process that reads streams: "URL accounts".
const readersVariable = "FRESHET_STREAM_READERS"

func TestMain(m *testing.M) {
	if task := os.Getenv(readersVariable); task != "" {
		url, count, _ := strings.Cut(task, " ")
		accounts, err := strconv.Atoi(count)
		if err == nil {
			err = readMany(context.Background(), url, accounts, func(line string) { fmt.Fprintln(os.Stdout, line) })
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	kafkatest.Main(m)
}

// readMany opens as many streams of each account as it may have, and reads them until ctx ends. It says "open" when all
// are open, and "all" each time that each has one event more. Events must come in the order of the numbers in them.
func readMany(ctx context.Context, url string, accounts int, say func(string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	most := int64(accounts * streams.DefaultMostOfAccount)
	var open, events atomic.Int64
	transport := &http.Transport{DisableKeepAlives: true, ReadBufferSize: 1024, WriteBufferSize: 1024}
	client := &http.Client{Transport: transport}
	opening := make(chan struct{}, 64)
	read := func(account int) error {
		opening <- struct{}{}
		stream := fmt.Sprintf("%s/v1/accounts/fan%d/feed/stream", url, account)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, stream, http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(r)
		<-opening
		if err != nil {
			return err
		}
		defer response.Body.Close() //nolint:errcheck // it is over
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the stream of fan%d: %s", account, response.Status)
		}
		next, told := 0, false
		lines := bufio.NewReaderSize(response.Body, 1024)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			if strings.HasPrefix(line, "id: ") && !told {
				told = true
				if open.Add(1) == most {
					say("open")
				}
			}
			if !strings.HasPrefix(line, "data: ") {
				continue
			}
			if !strings.Contains(line, fmt.Sprintf(`"number %d"`, next)) {
				return fmt.Errorf("the stream of fan%d: got %s, want number %d", account, line, next)
			}
			next++
			if n := events.Add(1); n%most == 0 {
				say("all")
			}
		}
	}
	var all sync.WaitGroup
	for i := range int(most) {
		all.Go(func() {
			if err := read(i % accounts); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// fans registers accounts that follow one.
func (p *process) fans(accounts int) {
	p.Helper()
	p.register("star")
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				p.register(fmt.Sprint("fan", i))
				p.follow(fmt.Sprint("fan", i), "star")
			}
		})
	}
	for i := range accounts {
		next <- i
	}
	close(next)
	wg.Wait()
}

// Many streams get everything, in order.
func TestManyStreams(t *testing.T) {
	const accounts, posts = 200, 10
	d := deploy(t)
	p := d.api("one")
	p.fans(accounts)
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan string, posts+1)
	failed := make(chan error, 1)
	go func() { failed <- readMany(ctx, p.APIURL(), accounts, func(s string) { said <- s }) }()
	await := func(want string) {
		t.Helper()
		select {
		case got := <-said:
			if got != want {
				t.Fatalf("the readers say %q, want %q", got, want)
			}
		case err := <-failed:
			t.Fatal(err)
		case <-time.After(4 * patience):
			t.Fatalf("the readers do not say %q", want)
		}
	}
	await("open")
	numbered(p, "star", 0, posts)
	for range posts {
		await("all")
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// BenchmarkStreams has 10,000 streams open, whose readers are in another process, and gives all of them a post at a
// time.
func BenchmarkStreams(b *testing.B) {
	const accounts = 1000
	d := deploy(b)
	p := d.api("one")
	p.fans(accounts)
	before := inUse()
	readers := exec.CommandContext(b.Context(), os.Args[0])
	readers.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", readersVariable, p.APIURL(), accounts))
	readers.Stderr = os.Stderr
	readers.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := readers.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := readers.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = readers.Process.Kill()
		_ = readers.Wait() // it was killed
	}()
	said := bufio.NewScanner(out)
	await := func(want string) {
		b.Helper()
		if !said.Scan() || said.Text() != want {
			b.Fatalf("the readers say %q, want %q", said.Text(), want)
		}
	}
	await("open")
	const open = accounts * streams.DefaultMostOfAccount
	memory := float64(inUse()-before) / open
	number := 0
	begun := cpu()
	for b.Loop() {
		numbered(p, "star", number, number+1)
		await("all")
		number++
	}
	b.ReportMetric(memory, "B/stream")
	b.ReportMetric(float64((cpu()-begun).Nanoseconds())/float64(number*open), "cpu-ns/event")
}

// inUse is the memory of heap and stacks after a collection.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it always answers about this process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
