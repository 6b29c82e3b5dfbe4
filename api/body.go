package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"
)

// MaxBody is the longest body of a request, in bytes, and MaxBatch that of a batch, each line of which may have
// MaxBody.
const (
	MaxBody  = 64 << 10
	MaxBatch = 8 << 20
)

const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

// readBody reads a body of at most limit bytes. If it may be missing, an empty one needs no content type.
func readBody(w http.ResponseWriter, r *http.Request, media string, limit int64, mayBeMissing bool) ([]byte, error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, &problem{Status: http.StatusUnsupportedMediaType, Detail: "a body must not be encoded"}
	}
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	body, err := placeOf(r).read(w, r, limit)
	if err != nil {
		return nil, unreadable(err)
	}
	if len(body) == 0 && mayBeMissing {
		return nil, nil
	}
	if !isMedia(r.Header.Get("Content-Type"), media) {
		return nil, &problem{
			Status: http.StatusUnsupportedMediaType, Detail: fmt.Sprintf("the body must be %s in UTF-8", media),
		}
	}
	return body, nil
}

// unreadable is the answer to a body that ended too early or is too long.
func unreadable(err error) error {
	var (
		tooLong *http.MaxBytesError
		refused *problem
	)
	switch {
	case errors.As(err, &tooLong), errors.As(err, &refused):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &problem{Status: http.StatusRequestTimeout, Detail: "the body did not come in time", cause: err}
	}
	return &problem{Status: http.StatusBadRequest, Detail: "the body could not be read", cause: err}
}

func isMedia(header, want string) bool {
	if header == want {
		return true
	}
	media, params, err := mime.ParseMediaType(header)
	charset, ok := params["charset"]
	return err == nil && media == want && (!ok || strings.EqualFold(charset, "utf-8"))
}

// object is a JSON object that a client sent: a flat one, whose fields are strings. Fields are taken one by one; what
// is wrong with them, and fields that nobody took, come out of end.
type object struct {
	fields []field
	at     []byte            // where scan gave up: the name of the field whose value it had begun to read
	broken map[string]string // malformed: 400
	wrong  map[string]string // against a rule: 422
}

// field is one of an object, with its value as it stands there.
type field struct {
	name  string
	value []byte
}

// maxFields bounds the fields of an object, several times what any request has.
const maxFields = 16

// readObject reads the body. If it may be missing, an empty one is an object without fields.
func readObject(w http.ResponseWriter, r *http.Request, mayBeMissing bool) (*object, error) {
	data, err := readBody(w, r, mediaJSON, MaxBody, mayBeMissing)
	if err != nil || data == nil {
		return &object{}, err
	}
	return parseObject(data)
}

// parseObject reads an object; it keeps data.
func parseObject(data []byte) (*object, error) {
	o := &object{}
	scanned := o.scan(data)
	if !utf8.Valid(data) {
		return nil, o.notUTF8()
	}
	if scanned {
		return o, nil
	}
	o.fields = nil
	err := o.parse(data)
	return o, err
}

// scan reads an object all of whose values are strings, in one go; it gives up at anything else, and at anything that
// is wrong, which parse has words for.
func (o *object) scan(data []byte) bool {
	rest, ok := token(data, '{')
	for first := true; ok; first = false {
		var name, value []byte
		if first {
			if after, empty := token(rest, '}'); empty {
				return len(space(after)) == 0
			}
		}
		if name, rest, ok = quoted(space(rest)); !ok || bytes.IndexByte(name, '\\') >= 0 {
			return false
		}
		if rest, ok = token(rest, ':'); !ok {
			return false
		}
		o.at = name[1 : len(name)-1]
		if value, rest, ok = quoted(space(rest)); !ok || o.has(o.at) {
			return false
		}
		if bytes.IndexByte(value, '\\') >= 0 && !json.Valid(value) {
			return false
		}
		if len(o.fields) == maxFields {
			return false
		}
		o.fields = append(o.fields, field{string(o.at), value})
		o.at = nil
		if after, more := token(rest, ','); more {
			rest = after
			continue
		}
		rest, ok = token(rest, '}')
		return ok && len(space(rest)) == 0
	}
	return false
}

// notUTF8 is the answer to a body that is not, whose fields were read as far as may be.
func (o *object) notUTF8() error {
	for _, f := range o.fields {
		if utf8.ValidString(f.name) && !utf8.Valid(f.value) {
			return badInput(f.name, "the field %q is not UTF-8", f.name)
		}
	}
	return badRequest("the body is not UTF-8")
}

// token takes white space and one character.
func token(data []byte, want byte) (rest []byte, ok bool) {
	data = space(data)
	if len(data) == 0 || data[0] != want {
		return data, false
	}
	return data[1:], true
}

func space(data []byte) []byte {
	for len(data) > 0 && (data[0] == ' ' || data[0] == '\t' || data[0] == '\n' || data[0] == '\r') {
		data = data[1:]
	}
	return data
}

// quoted takes a string, with its quotes; whether its escapes are right is not looked at.
func quoted(data []byte) (text, rest []byte, ok bool) {
	if len(data) == 0 || data[0] != '"' {
		return nil, data, false
	}
	for i := 1; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			return data[:i+1], data[i+1:], true
		case c == '\\':
			i++
		case c < ' ':
			return nil, data, false
		}
	}
	return nil, data, false
}

func (o *object) has(name []byte) bool {
	for _, f := range o.fields {
		if f.name == string(name) {
			return true
		}
	}
	return false
}

// parse reads any object, and says what is wrong with it.
func (o *object) parse(data []byte) error {
	if !json.Valid(data) {
		var v any
		err := json.Unmarshal(data, &v)
		if len(o.at) > 0 {
			return badInput(string(o.at), "the body is not JSON, as of the field %q: %v", o.at, err)
		}
		return badRequest("the body is not JSON: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return badRequest("the body must be a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return badRequest("the body is not JSON: %v", err)
		}
		name, ok := key.(string)
		if !ok {
			return badRequest("the body is not JSON: the key %v", key)
		}
		if len(o.fields) == maxFields {
			return badRequest("the object has more than %d fields", maxFields)
		}
		if o.has([]byte(name)) {
			return badInput(name, "the field %q is there twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return badRequest("the field %q is not JSON: %v", name, err)
		}
		o.fields = append(o.fields, field{name, value})
	}
	return nil
}

// text takes a field, and says whether it is there and a string.
func (o *object) text(name string) (s string, ok bool) {
	raw, ok := o.take(name)
	if !ok {
		return "", false
	}
	if raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		o.breaks(name, "must be a string")
		return "", false
	}
	// The decoder puts U+FFFD for half of a surrogate pair; such a string was never valid.
	if strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) &&
		!bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)) {
		o.breaks(name, "holds half of a surrogate pair")
		return "", false
	}
	return s, true
}

func (o *object) take(name string) ([]byte, bool) {
	for i, f := range o.fields {
		if f.name == name {
			o.fields[i] = o.fields[len(o.fields)-1]
			o.fields = o.fields[:len(o.fields)-1]
			return f.value, true
		}
	}
	return nil, false
}

// needed takes a field that has to be there.
func (o *object) needed(name string) string {
	there := o.has([]byte(name))
	s, _ := o.text(name)
	if !there {
		o.breaks(name, "is missing")
	}
	return s
}

// breaks notes that a field is malformed.
func (o *object) breaks(name, how string) {
	if o.broken == nil {
		o.broken = make(map[string]string)
	}
	o.broken[name] = how
}

// rule notes that a field is against a rule, if it is.
func (o *object) rule(name string, kept bool, format string, args ...any) {
	if kept {
		return
	}
	if o.wrong == nil {
		o.wrong = make(map[string]string)
	}
	o.wrong[name] = fmt.Sprintf(format, args...)
}

// end is the answer to all that is wrong with the object: nil, 400 or 422.
func (o *object) end() error {
	for _, f := range o.fields {
		o.breaks(f.name, "is unknown")
	}
	switch {
	case len(o.broken) > 0:
		return fieldProblem(http.StatusBadRequest, o.broken)
	case len(o.wrong) > 0:
		return fieldProblem(http.StatusUnprocessableEntity, o.wrong)
	}
	return nil
}
