// Package lock has mutexes for which waiting ends with a context.
package lock

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Mutex is held by one caller at a time. The zero value is ready to use.
type Mutex struct {
	once sync.Once
	held *semaphore.Weighted
}

// Lock waits until the mutex is free, and returns what releases it, or the error of the context if that ends first.
func (m *Mutex) Lock(ctx context.Context) (unlock func(), err error) {
	m.once.Do(func() { m.held = semaphore.NewWeighted(1) })
	if err := m.held.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { m.held.Release(1) }, nil
}

// Keyed is a Mutex for each key. The zero value is ready to use.
type Keyed struct {
	mu    sync.Mutex
	locks map[string]*Mutex
}

// Lock is Mutex.Lock of a key.
func (k *Keyed) Lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*Mutex{}
	}
	m, ok := k.locks[key]
	if !ok {
		m = &Mutex{}
		k.locks[key] = m
	}
	k.mu.Unlock()
	return m.Lock(ctx)
}
