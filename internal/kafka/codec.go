package kafka

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Message is a pointer to a generated protobuf struct.
type Message[T any] interface {
	*T
	proto.Message
}

// Codec is a goka codec for one protobuf message. Decode never returns an error, which would end the processor for
// good: it returns a P, or an *Invalid. Encode takes a P, and an *Invalid, which is written as it was read.
type Codec[T any, P Message[T]] struct{}

// Invalid is what could not be decoded.
type Invalid struct {
	Data []byte // as it was read
	Err  error
}

func (i *Invalid) Error() string { return i.Err.Error() }

// Unwrap is the decoder's error.
func (i *Invalid) Unwrap() error { return i.Err }

// Encode implements goka.Codec. Equal messages have equal bytes within a build of the program.
func (Codec[T, P]) Encode(value any) ([]byte, error) {
	switch v := value.(type) {
	case P:
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
		if data == nil {
			data = []byte{} // the message with nothing set: empty, where nil would be a tombstone
		}
		return data, nil
	case *Invalid:
		return v.Data, nil
	case *input[P]:
		return v.data, nil
	}
	return nil, fmt.Errorf("encode %T: this codec is for %T", value, P(nil))
}

// Decode implements goka.Codec; the error is always nil.
func (Codec[T, P]) Decode(data []byte) (any, error) {
	msg := P(new(T))
	if err := proto.Unmarshal(data, msg); err != nil {
		return &Invalid{Data: data, Err: fmt.Errorf("decode %T: %w", msg, err)}, nil
	}
	return msg, nil
}

// inputCodec is Codec for an input, whose bytes are kept beside the message.
type inputCodec[T any, P Message[T]] struct{ Codec[T, P] }

// input is a message as it was read.
type input[P proto.Message] struct {
	msg  P
	data []byte
}

func (c inputCodec[T, P]) Decode(data []byte) (any, error) {
	value, err := c.Codec.Decode(data)
	if msg, ok := value.(P); ok {
		return &input[P]{msg: msg, data: data}, err
	}
	return value, err
}
