package proxy

import "sync"

// buffers is the pool of copy buffers of httputil.ReverseProxy; without one each
// answer takes 32 KiB of fresh memory. It keeps pointers to arrays, since to put a
// slice into a sync.Pool allocates.
type buffers struct{ pool sync.Pool }

type buffer [32 << 10]byte

// Get returns a buffer.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*buffer); ok {
		return p[:]
	}
	return new(buffer)[:]
}

// Put takes back a buffer that Get returned.
func (b *buffers) Put(p []byte) { b.pool.Put((*buffer)(p)) }
