package feeds

import (
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// AnswerLife is how long the answer to a request that named itself is kept.
const AnswerLife = 24 * time.Hour

var (
	//go:embed scripts/claim_answer.lua
	claimAnswerSource string
	//go:embed scripts/end_answer.lua
	endAnswerSource string

	claimAnswerScript = redis.NewScript(claimAnswerSource)
	endAnswerScript   = redis.NewScript(endAnswerSource)
)

// AnswerKey names a request: a hash of its caller and of the name that the caller gave it.
type AnswerKey [32]byte

// AnswerState is what became of a claim.
type AnswerState string

// The states of a claim.
const (
	AnswerMine    AnswerState = "mine"     // whoever claims works on the request now
	AnswerBusy    AnswerState = "busy"     // somebody else does
	AnswerOther   AnswerState = "other"    // the name was given to another request
	AnswerThere   AnswerState = "answered" // it has been answered
	answerLeaseMS             = 15_000     // longer than a request may take
)

// ClaimAnswer asks to work on a request that has a name. The claim ends by EndAnswer, or by itself when its owner has
// gone. Request is a hash of the request; Post is the id that a new post would have, and becomes the one that the first
// claim named: whoever tries again, after an attempt of which nobody knows how it ended, writes the same post.
type ClaimAnswer struct {
	Key     AnswerKey
	Owner   string
	Request string
	Post    freshet.PostID

	State  AnswerState
	Answer []byte
}

// EndAnswer ends a claim: with an answer that is kept, without, or, with Forget, as if there had never been a request.
// It is not OK if the claim had ended before.
type EndAnswer struct {
	Key    AnswerKey
	Owner  string
	Answer []byte
	Forget bool

	OK bool
}

func (k AnswerKey) zone(l Layout) Zone { return l.of(binary.BigEndian.Uint64(k[:])) }

// InZone implements Op.
func (o *ClaimAnswer) InZone(l Layout) Zone { return o.Key.zone(l) }

// InZone implements Op.
func (o *EndAnswer) InZone(l Layout) Zone { return o.Key.zone(l) }

func answerKeys(zone Zone, k AnswerKey) []string {
	name := hex.EncodeToString(k[:])
	return []string{zone.key("answer:" + name), zone.key("answering:" + name)}
}

func queueClaimAnswer(ctx context.Context, pipe redis.Pipeliner, zone Zone, op *ClaimAnswer) func() error {
	cmd := claimAnswerScript.EvalSha(ctx, pipe, answerKeys(zone, op.Key),
		op.Owner, op.Request, uint64(op.Post), int(AnswerLife.Seconds()), answerLeaseMS)
	return func() error {
		answer, err := cmd.StringSlice()
		if err != nil {
			return err
		}
		if len(answer) != 2 {
			return fmt.Errorf("claim an answer: %w: %d parts", ErrCorrupt, len(answer))
		}
		switch op.State = AnswerState(answer[0]); op.State {
		case AnswerThere:
			op.Answer = []byte(answer[1])
		case AnswerMine:
			post, err := strconv.ParseUint(answer[1], 10, 63)
			if err != nil {
				return fmt.Errorf("claim an answer: %w: %w", ErrCorrupt, err)
			}
			op.Post = freshet.PostID(post)
		case AnswerBusy, AnswerOther:
		}
		return nil
	}
}

func queueEndAnswer(ctx context.Context, pipe redis.Pipeliner, zone Zone, op *EndAnswer) func() error {
	return queueScript(ctx, pipe, endAnswerScript, answerKeys(zone, op.Key),
		[]any{op.Owner, op.Answer, int(AnswerLife.Seconds()), op.Forget}, &op.OK)
}
