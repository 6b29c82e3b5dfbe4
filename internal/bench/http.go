package bench

import "context"

func (b *bench) read(ctx context.Context) error   { return nil }
func (b *bench) mixed(ctx context.Context) error  { return nil }
func (b *bench) accept(ctx context.Context) error { return nil }
func (b *bench) log(ctx context.Context) error    { return nil }
func (b *bench) memory(ctx context.Context) error { return nil }
