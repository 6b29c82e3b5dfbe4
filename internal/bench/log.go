package bench

import "context"

func (b *bench) log(ctx context.Context) error    { return nil }
func (b *bench) memory(ctx context.Context) error { return nil }
