package kafka

import "github.com/lovoo/goka"

// gokaContext is goka.Context by a name that leaves its method Context free.
type gokaContext = goka.Context

// guarded is a goka.Context that knows whether a panic comes from goka: its methods end the processor by a panic that
// only goka may recover. It is for one callback, in its goroutine.
type guarded struct {
	gokaContext
	inside bool // a method of goka's is running, or was left by a panic
}

func (g *guarded) Fail(err error) {
	g.inside = true
	done := g.gokaContext.DeferCommit()
	g.gokaContext.Fail(err)
	// It has returned, so the processor is shutting down, and the callback goes on. The message must not be committed.
	done(err)
	g.inside = false
}

func (g *guarded) Emit(topic goka.Stream, key string, value any, options ...goka.ContextOption) {
	g.inside = true
	g.gokaContext.Emit(topic, key, value, options...)
	g.inside = false
}

func (g *guarded) Loopback(key string, value any, options ...goka.ContextOption) {
	g.inside = true
	g.gokaContext.Loopback(key, value, options...)
	g.inside = false
}

func (g *guarded) SetValue(value any, options ...goka.ContextOption) {
	g.inside = true
	g.gokaContext.SetValue(value, options...)
	g.inside = false
}

func (g *guarded) Delete(options ...goka.ContextOption) {
	g.inside = true
	g.gokaContext.Delete(options...)
	g.inside = false
}

func (g *guarded) Value() any {
	g.inside = true
	v := g.gokaContext.Value()
	g.inside = false
	return v
}

func (g *guarded) Join(topic goka.Table) any {
	g.inside = true
	v := g.gokaContext.Join(topic)
	g.inside = false
	return v
}

func (g *guarded) Lookup(topic goka.Table, key string) any {
	g.inside = true
	v := g.gokaContext.Lookup(topic, key)
	g.inside = false
	return v
}
