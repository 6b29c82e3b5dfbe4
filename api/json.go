package api

import (
	"strconv"
	"time"
	"unicode/utf8"

	"freshet"
)

// Posts are most of what is ever answered, so they are written by hand: a page of twenty through encoding/json took a
// fifth of a read. What encoding/json makes of them, without escaping for HTML, is what the tests hold this to.

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0 // of what needs no escape and has yet to be appended
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		r, size := rune(c), 1
		if c >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
			if (r != utf8.RuneError || size > 1) && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
		}
		b = append(b, s[start:i]...)
		b = appendEscape(b, r)
		i += size
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func appendEscape(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// appendTime appends a time as the API writes it: RFC 3339 with milliseconds, in UTC.
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, `"`+timeLayout+`"`)
}

// appendPost appends a post, as its schema in openapi.yaml has it.
func appendPost(b []byte, p *freshet.Post, author freshet.AccountID) []byte {
	b = append(b, `{"id":"`...)
	b = strconv.AppendUint(b, uint64(p.ID), 10)
	b = append(b, `","author":`...)
	b = appendString(b, string(author))
	b = append(b, `,"text":`...)
	b = appendString(b, p.Text)
	if p.ReplyTo != 0 {
		b = append(b, `,"reply_to":"`...)
		b = strconv.AppendUint(b, uint64(p.ReplyTo), 10)
		b = append(b, '"')
	}
	b = append(b, `,"visibility":`...)
	b = appendString(b, string(p.Visibility))
	b = append(b, `,"created_at":`...)
	b = appendTime(b, p.CreatedAt)
	if !p.EditedAt.IsZero() {
		b = append(b, `,"edited_at":`...)
		b = appendTime(b, p.EditedAt)
	}
	return append(b, '}')
}
