package freshet

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// AccountID is the name that the product gives an account: 1 to 64 characters of A-Z a-z 0-9 . _ -
type AccountID string

// MaxAccountID is the length of the longest AccountID, in bytes.
const MaxAccountID = 64

// ErrAccountID is wrapped by the errors of ParseAccountID.
var ErrAccountID = errors.New("an account id is 1 to 64 characters of A-Z a-z 0-9 . _ -")

// ParseAccountID checks s. The characters allowed exclude '#', '/' and ':', so that an id can stand beside a separator
// in a Kafka key.
func ParseAccountID(s string) (AccountID, error) {
	if len(s) == 0 || len(s) > MaxAccountID {
		return "", fmt.Errorf("%w: got %d characters", ErrAccountID, len(s))
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return "", fmt.Errorf("%w: got %q", ErrAccountID, c)
		}
	}
	return AccountID(s), nil
}

// Number names an account inside freshet: the partition (high bits) and the offset (low 40 bits) of the record in the
// registrations topic that registered it. It is unique without a coordinator and dense within a partition, so that 32
// neighbours can share a block in Redis. 0 is a number like any other.
type Number uint64

// offsetBits bounds a partition of registrations to 2^40 records; 23 bits remain for the partition.
const offsetBits = 40

// SlotsPerBlock is how many accounts with neighbouring numbers share a block in Redis.
const SlotsPerBlock = 32

// NumberAt is the number of the account that the record at this partition and offset of registrations registered.
func NumberAt(partition int32, offset int64) Number {
	return Number(partition)<<offsetBits | Number(offset)
}

// ParseNumber reads what Key wrote.
func ParseNumber(s string) (Number, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("account number %q: want a decimal number below 2^63", s)
	}
	return Number(n), nil
}

// Key is the number as a Kafka key: decimal.
func (n Number) Key() string { return strconv.FormatUint(uint64(n), 10) }

// Block is the block of the account's feed; Slot its place there, below SlotsPerBlock.
func (n Number) Block() uint64 { return uint64(n) / SlotsPerBlock }

// Slot is the account's place in its block.
func (n Number) Slot() byte { return byte(n % SlotsPerBlock) }

// MaxName is the length of the longest account name, in characters.
const MaxName = 200

// Account is an account as the directory knows it.
type Account struct {
	ID        AccountID
	Number    Number
	Name      string
	CreatedAt time.Time
	Closed    bool
}
