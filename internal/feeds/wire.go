package feeds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A flush is tens of thousands of commands whose answers are a number each. The client would make an object of each,
// write its parts one by one, and look for what was pushed before each answer; here the commands are bytes in a buffer,
// and nothing is allocated for one. Everything else, and a cluster, goes by the client.

// wire is one connection for flushes. It is for one goroutine; after an error it is of no use any more.
type wire struct {
	layout Layout
	conn   net.Conn
	in     *bufio.Reader
	out    []byte
	key    []byte
}

// wireTimeout is how long Redis may take to read or answer anything at all.
const wireTimeout = 10 * time.Second

// wireBuffer is how much is written at a time: Redis works on it while the next is made.
const wireBuffer = 128 << 10

// wires keeps connections for flushes.
type wires struct {
	client *redis.Client
	layout Layout

	mu     sync.Mutex
	idle   []*wire
	closed bool
}

// onWire says whether operations are such as a flush consists of, and so many that it pays.
func onWire(ops []Op) bool {
	if len(ops) <= gatherRequest {
		return false
	}
	for _, op := range ops {
		switch op.(type) {
		case *AppendLog, *AppendOutbox, *PutBody, *PutTombstone, *Advance:
		default:
			return false
		}
	}
	return true
}

// do runs the operations in order. After an error any of them may have run.
func (s *wires) do(ctx context.Context, ops []Op) error {
	w, err := s.take(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.conn.Close() })
	refused, err := w.run(ops)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	switch {
	case err != nil:
		s.closeIdle() // whatever has ended this one has ended them, too
		return errors.Join(err, w.conn.Close(), ctx.Err())
	case refused != nil:
		// The address may lead to another server by now, as after a fail-over.
		return errors.Join(refused, w.conn.Close())
	}
	s.give(w)
	return nil
}

func (s *wires) take(ctx context.Context) (*wire, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errConnClosed
	}
	if last := len(s.idle) - 1; last >= 0 {
		w := s.idle[last]
		s.idle = s.idle[:last]
		s.mu.Unlock()
		return w, nil
	}
	s.mu.Unlock()
	options := s.client.Options()
	conn, err := options.Dialer(ctx, options.Network, options.Addr)
	if err != nil {
		return nil, err
	}
	w := &wire{layout: s.layout, conn: conn, in: bufio.NewReaderSize(conn, wireBuffer)}
	if err := w.login(options.Username, options.Password); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

// login says who this is, where Redis wants to know.
func (w *wire) login(user, password string) error {
	switch {
	case password == "":
		return nil
	case user == "":
		w.begin(2)
		w.text("AUTH")
	default:
		w.begin(3)
		w.text("AUTH")
		w.text(user)
	}
	w.text(password)
	if err := w.send(); err != nil {
		return err
	}
	if err := w.conn.SetReadDeadline(time.Now().Add(wireTimeout)); err != nil {
		return err
	}
	_, refused, err := w.answer()
	return errors.Join(refused, err)
}

func (s *wires) give(w *wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = w.conn.Close()
		return
	}
	s.idle = append(s.idle, w)
}

// close ends the idle connections; those that are used end with what they are used for.
func (s *wires) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.closeIdle()
}

func (s *wires) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.idle {
		_ = w.conn.Close()
	}
	s.idle = nil
}

// run writes all, then reads all. refused is the first error that Redis answered, err one of the connection.
func (w *wire) run(ops []Op) (refused, err error) {
	w.out = w.out[:0]
	for _, op := range ops {
		w.put(op)
		if len(w.out) >= wireBuffer {
			if err := w.send(); err != nil {
				return nil, err
			}
		}
	}
	if err := w.send(); err != nil {
		return nil, err
	}
	for i, op := range ops {
		if i%1024 == 0 {
			if err := w.conn.SetReadDeadline(time.Now().Add(wireTimeout)); err != nil {
				return nil, err
			}
		}
		n, no, err := w.answer()
		if err != nil {
			return nil, err
		}
		if no != nil && refused == nil {
			refused = no
		}
		switch op := op.(type) {
		case *AppendLog:
			op.Length = n
		case *AppendOutbox:
			op.Length = n
		case *PutBody:
			op.OK = n == 1
		case *Advance:
			op.OK = n == 1
		}
	}
	return refused, nil
}

func (w *wire) send() error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(wireTimeout)); err != nil {
		return err
	}
	_, err := w.conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// put appends the command of an operation.
func (w *wire) put(op Op) {
	zone := op.InZone(w.layout)
	switch op := op.(type) {
	case *AppendLog:
		w.append(zone, "log", op.Block, op.Entries)
	case *AppendOutbox:
		w.append(zone, "outbox", uint64(op.Author), op.IDs)
	case *PutTombstone:
		w.begin(5)
		w.text("SET")
		w.text(zone.postKey(op.Post))
		w.text("T")
		w.text("EX")
		w.number(int64(BodyLife.Seconds()))
	case *PutBody:
		w.script(putBodyScript, 5, zone.tokenKey(), zone.postKey(op.Post))
		w.text(op.Token)
		w.number(op.Offset)
		w.bytes(op.value())
		w.number(int64(BodyLife.Seconds()))
		w.text(flag(op.Replace))
	case *Advance:
		w.script(advanceScript, 4+2*len(op.Marks), zoneKeys(zone, op.Writer)...)
		w.text(op.Token)
		w.number(op.Counter)
		w.number(op.Counter + 1)
		w.number(int64(counterLife.Seconds()))
		for input, offset := range op.Marks {
			w.text(input.field())
			w.number(offset)
		}
	}
}

func flag(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

// append is most of what there is.
func (w *wire) append(zone Zone, kind string, number uint64, value []byte) {
	w.key = zone.appendNumbered(w.key[:0], kind, number)
	w.out = append(w.out, "*3\r\n$6\r\nAPPEND\r\n"...)
	w.bytes(w.key)
	w.bytes(value)
}

func (w *wire) script(script *redis.Script, args int, keys ...string) {
	w.begin(3 + len(keys) + args)
	w.text("EVALSHA")
	w.text(script.Hash())
	w.number(int64(len(keys)))
	for _, key := range keys {
		w.text(key)
	}
}

func (w *wire) begin(parts int) {
	w.out = strconv.AppendInt(append(w.out, '*'), int64(parts), 10)
	w.out = append(w.out, "\r\n"...)
}

func (w *wire) length(n int) {
	w.out = strconv.AppendInt(append(w.out, '$'), int64(n), 10)
	w.out = append(w.out, "\r\n"...)
}

func (w *wire) bytes(b []byte) {
	w.length(len(b))
	w.out = append(append(w.out, b...), "\r\n"...)
}

func (w *wire) text(s string) {
	w.length(len(s))
	w.out = append(append(w.out, s...), "\r\n"...)
}

func (w *wire) number(n int64) {
	var digits [20]byte
	w.bytes(strconv.AppendInt(digits[:0], n, 10))
}

// errReply is wrapped by errors about answers that no command of a flush has.
var errReply = errors.New("unexpected answer of redis")

// answer reads a number, an OK (0), or an error.
func (w *wire) answer() (n int64, refused, err error) {
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 3 {
		return 0, nil, fmt.Errorf("%w: %q", errReply, line)
	}
	switch text := line[1 : len(line)-2]; line[0] {
	case ':':
		for _, digit := range text { // lengths and verdicts: never negative
			if digit < '0' || digit > '9' {
				return 0, nil, fmt.Errorf("%w: %q", errReply, line)
			}
			n = 10*n + int64(digit-'0')
		}
		return n, nil, nil
	case '+':
		return 0, nil, nil
	case '-':
		return 0, refusal(text), nil
	}
	return 0, nil, fmt.Errorf("%w: %q", errReply, line)
}

// refusal is an error that Redis answered, such as redis.HasErrorPrefix knows.
type refusal string

func (e refusal) Error() string { return string(e) }

// RedisError implements redis.Error.
func (e refusal) RedisError() {}
