package disaster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"
)

// crashed reports whether a child died of what was neither its result nor its error.
func crashed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit)
}

// full lets a migration fill a file system of its own, which is then made larger.
func full(ctx context.Context, s scene) (out Outcome, err error) {
	const large = "size=4g"
	if err := unix.Mount("tmpfs", s.dir, "tmpfs", 0, large); errors.Is(err, unix.EPERM) {
		return Outcome{Verdict: "not run", Left: "not run: mounting a file system takes root"}, nil
	} else if err != nil {
		return out, err
	}
	mount := s.dir
	defer func() { err = errors.Join(err, unix.Unmount(mount, unix.MNT_DETACH)) }()
	s = s.below("store")
	if err := s.prepare(ctx, s.sizes.FullRows); err != nil {
		return out, err
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(mount, &stat); err != nil {
		return out, err
	}
	used := int(stat.Blocks-stat.Bfree) * int(stat.Bsize)
	if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", used+s.sizes.FullRoom)); err != nil {
		return out, err
	}
	p := program{Small: 1, Rewrite: true, Grow: s.sizes.FullGrow}
	said := s.start(ctx, p)
	if said == nil {
		return out, errors.New("the disk did not fill")
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_REMOUNT, large); err != nil {
		return out, err
	}
	left, err := s.look(ctx)
	if err != nil {
		return out, err
	}
	out.Left = fmt.Sprintf("%s; %s; %s", quote(said), left.State, left.rows())
	out.Verdict = "stops, begins again"
	if left.Changed[1] > 0 {
		out.Verdict = "stops, goes on"
	}
	if crashed(said) {
		out.Left = "the process crashes (" + said.Error() + "); " + left.State + "; " + left.rows()
		out.Verdict = "crashes, " + out.Verdict[len("stops, "):]
	}
	if err := s.afterwards(ctx, p, &out); err != nil {
		return out, err
	}
	if out.Must == "start it again" {
		out.Must = "make room, start it again"
	} else {
		out.Must = "make room, " + out.Must
	}
	return out, nil
}
