package graph

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"freshet"
)

// maxLine is the length of the longest line that is read, in bytes: far more than two ids. Comments may be longer.
const maxLine = 1024

// shownBad is how many bad lines are kept to be shown; the others are only counted.
const shownBad = 10

// BadLine is a line that says nothing that can be imported.
type BadLine struct {
	Number int
	Reason error
}

// BadLines are the lines left out: the first ten, and how many there are.
type BadLines struct {
	Count int
	First []BadLine
}

func (b *BadLines) add(number int, reason error) {
	b.Count++
	if len(b.First) < shownBad {
		b.First = append(b.First, BadLine{number, reason})
	}
}

var (
	// ErrEmpty is wrapped by the error of Read for a file without a single follow.
	ErrEmpty = errors.New("there is no follow in it")
	// ErrBinary is wrapped by the error of Read for a file that is no text.
	ErrBinary = errors.New("it is not an edge list: it has a byte of value 0")

	errSelf   = errors.New("an account cannot follow itself")
	errLong   = fmt.Errorf("the line has more than %d bytes", maxLine)
	errFields = errors.New(`want two ids, "follower followee"`)
)

// Read reads an edge list: a line for each follow, with the ids of follower and followee, white space between them.
// Empty lines and those that begin with # say nothing. A file compressed with gzip is recognised by its first bytes.
//
// Lines that cannot be used are left out and listed; an error is for a file that cannot be used as a whole.
func Read(file io.Reader) (*Graph, BadLines, error) {
	var bad BadLines
	r, err := text(file)
	if err != nil {
		return nil, bad, err
	}
	b := newBuilder()
	for number := 1; ; number++ {
		line, long, err := nextLine(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, bad, fmt.Errorf("line %d: %w", number, err)
		}
		if bytes.IndexByte(line, 0) >= 0 {
			return nil, bad, fmt.Errorf("line %d: %w", number, ErrBinary)
		}
		fields := bytes.Fields(line)
		if len(fields) == 0 && !long || len(fields) > 0 && fields[0][0] == '#' {
			continue
		}
		follower, followee, err := parse(fields, long)
		if err != nil {
			bad.add(number, err)
			continue
		}
		b.add(follower, followee)
	}
	g := b.build()
	if g.Follows() == 0 {
		return nil, bad, ErrEmpty
	}
	return g, bad, nil
}

// text is the file's text, unpacked if need be.
func text(file io.Reader) (*bufio.Reader, error) {
	r := bufio.NewReaderSize(file, 256<<10)
	magic, err := r.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read it: %w", err)
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return r, nil
	}
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("unpack it: %w", err)
	}
	return bufio.NewReaderSize(unpacked, 256<<10), nil
}

// nextLine is the next line, its beginning if it is longer than maxLine. It is good until the next call.
func nextLine(r *bufio.Reader) (line []byte, long bool, err error) {
	line, more, err := r.ReadLine()
	if err != nil {
		return nil, false, err
	}
	if len(line) > maxLine {
		line, long = line[:maxLine], true
	}
	if !more {
		return line, long, nil
	}
	line = bytes.Clone(line) // reading on overwrites it
	for more {
		_, more, err = r.ReadLine()
		if errors.Is(err, io.EOF) {
			break // the end is for the next call
		}
		if err != nil {
			return nil, false, err
		}
	}
	return line, true, nil
}

func parse(fields [][]byte, long bool) (follower, followee freshet.AccountID, err error) {
	if long {
		return "", "", errLong
	}
	if len(fields) != 2 {
		return "", "", fmt.Errorf("%w, got %d", errFields, len(fields))
	}
	if follower, err = freshet.ParseAccountID(string(fields[0])); err != nil {
		return "", "", fmt.Errorf("follower: %w", err)
	}
	if followee, err = freshet.ParseAccountID(string(fields[1])); err != nil {
		return "", "", fmt.Errorf("followee: %w", err)
	}
	if follower == followee {
		return "", "", errSelf
	}
	return follower, followee, nil
}
