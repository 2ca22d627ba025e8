package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockLimit bounds the wait for another process that works on the cluster. That process may be building everything.
const lockLimit = 45 * time.Minute

// lock keeps all other processes on this machine from changing the cluster.
func (c *Cluster) lock(ctx context.Context) (unlock func(), err error) {
	return lockFile(ctx, c.dir+".lock", c.progress)
}

// lockFile takes an exclusive lock on a file, which it creates. The kernel releases the lock when its holder dies in
// any way. The file is removed with the lock, so that nothing is left on the machine.
func lockFile(ctx context.Context, path string, p *progress) (unlock func(), err error) {
	told := false
	var held *os.File
	err = waitFor(ctx, "the lock "+path, lockLimit, func(context.Context) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return giveUp(err)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return giveUp(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return giveUp(err)
			}
			if !told {
				told = true
				p.line("waiting for another process that holds " + path)
			}
			return errors.New("another process holds it")
		}
		// The last holder may have removed the file between our open and our lock. Then others lock a new file, and
		// this lock has no effect.
		ours, err := f.Stat()
		current, statErr := os.Stat(path)
		if err != nil || statErr != nil || !os.SameFile(ours, current) {
			f.Close()
			return errors.New("its file was replaced")
		}
		held = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	return func() {
		os.Remove(path)
		held.Close()
		// Only an empty folder is removed, which nothing uses.
		os.Remove(filepath.Dir(path))
	}, nil
}
