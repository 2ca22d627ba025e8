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

// lockLimit bounds the wait for another process that works on the cluster. It may be building everything from nothing.
const lockLimit = 45 * time.Minute

// lock makes the caller the only one on this machine to change the cluster.
func (c *Cluster) lock(ctx context.Context) (unlock func(), err error) {
	return lockFile(ctx, c.dir+".lock", c.progress)
}

// lockFile takes an exclusive lock on a file, which it creates. The kernel drops the lock when its holder dies, however it dies. The file
// goes away with
// the lock, so that nothing is left on the machine.
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
		// Its last holder may have removed the file between our open and our lock. Then others lock a new file, and this lock is worth nothing.
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
		// Only goes away when empty, and then it is ours or of no use to anyone.
		os.Remove(filepath.Dir(path))
	}, nil
}
