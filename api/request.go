package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gorilla/mux"

	"freshet"
)

// MaxBody is the longest body of a request, in bytes.
const MaxBody = 64 << 10

// The limits of a list.
const (
	maxLimit     = 100
	defaultLimit = 20
)

// object is the JSON object of a request's body: a flat one, whose fields are strings. Fields are taken one by one;
// what is wrong with them, and fields that nobody took, come out of end.
type object struct {
	fields map[string]json.RawMessage
	broken map[string]string // malformed: 400
	wrong  map[string]string // against a rule: 422
}

// readObject reads the body. If it may be missing, an empty one is an object without fields.
func readObject(w http.ResponseWriter, r *http.Request, mayBeMissing bool) (*object, error) {
	o := &object{
		fields: make(map[string]json.RawMessage), broken: make(map[string]string), wrong: make(map[string]string),
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, &problem{Status: http.StatusUnsupportedMediaType, Detail: "a body must not be encoded"}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return nil, unreadable(err)
	}
	if len(data) == 0 && mayBeMissing {
		return o, nil
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset, ok := params["charset"]; err != nil || media != "application/json" ||
		ok && !strings.EqualFold(charset, "utf-8") {
		return nil, &problem{Status: http.StatusUnsupportedMediaType, Detail: "the body must be application/json in UTF-8"}
	}
	if !utf8.Valid(data) {
		return nil, badRequest("the body is not UTF-8")
	}
	err = o.parse(data)
	return o, err
}

// unreadable is the answer to a body that ended too early or is too long.
func unreadable(err error) error {
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return err
	}
	return &problem{Status: http.StatusBadRequest, Detail: "the body could not be read", cause: err}
}

func (o *object) parse(data []byte) error {
	if !json.Valid(data) {
		var v any
		err := json.Unmarshal(data, &v)
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
		if _, ok := o.fields[name]; ok {
			return badRequest("the field %q is there twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return badRequest("the field %q is not JSON: %v", name, err)
		}
		o.fields[name] = value
	}
	return nil
}

// text takes a field, and says whether it is there and a string.
func (o *object) text(name string) (string, bool) {
	raw, ok := o.fields[name]
	if !ok {
		return "", false
	}
	delete(o.fields, name)
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		o.broken[name] = "must be a string"
		return "", false
	}
	// The decoder puts U+FFFD for half of a surrogate pair; such a string was never valid.
	if strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) &&
		!bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)) {
		o.broken[name] = "holds half of a surrogate pair"
		return "", false
	}
	return s, true
}

// needed takes a field that has to be there.
func (o *object) needed(name string) string {
	_, there := o.fields[name]
	s, _ := o.text(name)
	if !there {
		o.broken[name] = "is missing"
	}
	return s
}

// rule notes that a field is against a rule, if it is.
func (o *object) rule(name string, kept bool, format string, args ...any) {
	if !kept {
		o.wrong[name] = fmt.Sprintf(format, args...)
	}
}

// end is the answer to all that is wrong with the object: nil, 400 or 422.
func (o *object) end() error {
	for name := range o.fields {
		o.broken[name] = "is unknown"
	}
	switch {
	case len(o.broken) > 0:
		return fieldProblem(http.StatusBadRequest, o.broken)
	case len(o.wrong) > 0:
		return fieldProblem(http.StatusUnprocessableEntity, o.wrong)
	}
	return nil
}

// account finds the open account that a variable of the path names.
func (a *API) account(r *http.Request, variable string) (freshet.Account, error) {
	id, err := pathID(r, variable)
	if err != nil {
		return freshet.Account{}, err
	}
	return a.openAccount(id)
}

func pathID(r *http.Request, variable string) (freshet.AccountID, error) {
	id, err := freshet.ParseAccountID(mux.Vars(r)[variable])
	if err != nil {
		return "", badRequest("%v", err)
	}
	return id, nil
}

// openAccount finds an account; a closed one is as unknown as one that never was.
func (a *API) openAccount(id freshet.AccountID) (freshet.Account, error) {
	account, ok, err := a.Accounts.ByID(id)
	if err != nil {
		return freshet.Account{}, err
	}
	if !ok || account.Closed {
		return freshet.Account{}, notFound("there is no account %q", id)
	}
	return account, nil
}

func pathPost(r *http.Request) (freshet.PostID, error) {
	id, err := freshet.ParsePostID(mux.Vars(r)["post"])
	if err != nil {
		return 0, badRequest("%v", err)
	}
	return id, nil
}

// place is what a list was asked for: limit and cursor. The value of a cursor is 0 for the list's beginning.
func (a *API) place(r *http.Request, kind listKind, of freshet.Number) (limit int, value uint64, err error) {
	query, err := parseQuery(r)
	if err != nil {
		return 0, 0, err
	}
	limit = defaultLimit
	if s, ok := query["limit"]; ok {
		limit, err = strconv.Atoi(s)
		if err != nil || limit < 1 || limit > maxLimit || strconv.Itoa(limit) != s {
			return 0, 0, badRequest("limit is %q, want a number from 1 to %d", s, maxLimit)
		}
	}
	if s, ok := query["cursor"]; ok {
		if value, err = a.cursors.open(s, kind, of); err != nil {
			return 0, 0, err
		}
	}
	return limit, value, nil
}

// parseQuery reads the query of a list, where a parameter that nobody reads is as wrong as an unknown field.
func parseQuery(r *http.Request) (map[string]string, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query is malformed: %v", err)
	}
	query := make(map[string]string, len(values))
	for name, v := range values {
		if !slices.Contains([]string{"limit", "cursor"}, name) {
			return nil, badRequest("the parameter %q is unknown; lists take limit and cursor", name)
		}
		if len(v) != 1 {
			return nil, badRequest("the parameter %q is there %d times", name, len(v))
		}
		query[name] = v[0]
	}
	return query, nil
}
