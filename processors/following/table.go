package following

import (
	"fmt"

	"freshet"
	"freshet/internal/events"
	"freshet/internal/kafka"
)

// Table is the codec of the group's table, for the processor and for views: a *freshet.Following, or a *kafka.Invalid
// for a row that cannot be read.
type Table struct{}

var record kafka.Codec[events.FollowingRow, *events.FollowingRow]

// Encode implements goka.Codec.
func (Table) Encode(value any) ([]byte, error) {
	row, ok := value.(*freshet.Following)
	if !ok {
		return nil, fmt.Errorf("encode a row of following: got a %T", value)
	}
	return record.Encode(events.EncodeFollowing(row))
}

// Decode implements goka.Codec; the error is always nil, for an error would end the processor for good.
func (Table) Decode(data []byte) (any, error) {
	value, err := record.Decode(data)
	if err != nil {
		return nil, err
	}
	m, ok := value.(*events.FollowingRow)
	if !ok {
		return value, nil
	}
	row, broken := events.DecodeFollowing(m)
	if broken != nil {
		return &kafka.Invalid{Data: data, Err: broken}, nil //nolint:nilerr // an error would end the processor for good
	}
	return row, nil
}
