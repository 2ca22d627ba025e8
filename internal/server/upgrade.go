package server

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
)

// maxJump is the number of release lines over which one upgrade may go: "each upgrade should jump at most 2
// major versions", of which its example counts 1.14 and 1.15 as two
// (developer.hashicorp.com/consul/docs/upgrade/instructions). The three of Enterprise's long-term support are
// not for the community edition.
const maxJump = 2

// maxLines bounds the number of lines over which a path may go: no version of Consul is that far ahead.
const maxLines = 100

// oldestUpgrade is the oldest version to which the general rule applies: for older versions, the same document
// has instructions for each range of versions.
var oldestUpgrade = version.Must(version.NewVersion("1.10.0"))

// lastLines are the last known release lines of each major number, by their minor number. 2.0 follows 1.22 (the
// images of hashicorp/consul), and 2.1 is the latest that Consul's documentation mentions: others may follow
// it.
var lastLines = map[int64]int64{1: 22, 2: 1}

// line is a release line, which Consul's documentation calls a major version: its releases only differ in the
// third number.
type line struct{ major, minor int64 }

func lineOf(v *version.Version) line {
	s := v.Segments64()
	return line{s[0], s[1]}
}

// String is the line as a step of a path: "1.20.x".
func (l line) String() string { return fmt.Sprintf("%d.%d.x", l.major, l.minor) }

// next is the line after l on the way to another one. Within a major number, lines are counted one by one,
// known or not. A higher major number begins after the last known line of the former one. If that major number
// is not known at all, the next one begins after line l. So a later, unknown line is not counted, and a jump
// over it is not refused.
func (l line) next(to line) line {
	if l.major < to.major && l.minor >= lastLines[l.major] {
		return line{l.major + 1, 0}
	}
	return line{l.major, l.minor + 1}
}

// passed reports whether the next major number is known to have come before l.
func (l line) passed() bool {
	_, known := lastLines[l.major+1]
	return known && l.minor > lastLines[l.major]
}

// ParseVersion reads a Consul version of three numbers, such as "1.22.7" or
// "2.0.0-rc1". It refuses Consul Enterprise, and build metadata, which no tag of an image can hold.
func ParseVersion(text string) (*version.Version, error) {
	if enterprisePart.MatchString(text) {
		return nil, enterpriseError(text, cmp.Or(numbers.FindString(text), "1.22.7"))
	}
	v, err := version.NewSemver(text)
	if err != nil || strings.HasPrefix(text, "v") || strings.Contains(text, "+") || strings.Count(strings.SplitN(text, "-", 2)[0], ".") != 2 {
		return nil, fmt.Errorf("%q is not a semantic version of three numbers, such as \"1.22.7\"", text)
	}
	return v, nil
}

// preRelease matches what Consul calls its pre-releases.
var preRelease = regexp.MustCompile(`^(alpha|beta|dev|rc)[0-9]*`)

// release is the release of Consul that a version names. Any other suffix than
// that of a pre-release names a build of it, such as "1.22.7-ubi".
func release(v *version.Version) *version.Version {
	core := v.Core()
	if p := preRelease.FindString(v.Prerelease()); p != "" {
		return version.Must(version.NewSemver(core.String() + "-" + p))
	}
	return core
}

// compareVersions is negative if a is the older release of Consul, and 0 if
// both are the same.
func compareVersions(a, b *version.Version) int { return release(a).Compare(release(b)) }

// SortVersions returns the different versions of a list, oldest first, without texts that are not versions.
func SortVersions(texts []string) []string {
	texts = slices.DeleteFunc(slices.Clone(texts), func(t string) bool { _, err := ParseVersion(t); return err != nil })
	slices.Sort(texts)
	texts = slices.Compact(texts)
	slices.SortStableFunc(texts, func(a, b string) int {
		v, _ := ParseVersion(a)
		w, _ := ParseVersion(b)
		return compareVersions(v, w)
	})
	return texts
}

// DowngradeError says that a version is older than one that runs. Consul's data may
// hold what an older version cannot read: "As with most major version upgrades, you
// cannot downgrade once the upgrade to 1.4.0 is complete as it adds new state to the
// raft store" (developer.hashicorp.com/consul/docs/upgrade/version-specific).
type DowngradeError struct {
	From, To string
	// Oldest is a version before From that servers still run, "" if all run From.
	Oldest string
}

// Error implements error. It says what to do instead.
func (e *DowngradeError) Error() string {
	if e.Oldest != "" {
		return fmt.Sprintf(
			"%s is older than %s, which servers already run, and Consul does not support downgrades: an older version may not be able to read "+
				"the data. "+
				"Complete the upgrade to %s or a later version, or revert it to %s, which servers still run",
			e.To,
			e.From,
			e.From,
			e.Oldest,
		)
	}
	return fmt.Sprintf("%s is older than %s, and Consul does not support downgrades: an older version may not be able to read the data. "+
		"Keep %s, or declare a later version. To go back, create a second cluster with %s, and restore the snapshot from before the "+
		"upgrade into it", e.To, e.From, e.From, e.To)
}

// JumpError says that an upgrade would go over too many release lines at once.
type JumpError struct {
	From string
	// Path is what to apply one after the other instead, two steps or more.
	Path []string
}

// Error implements error. It names the path.
func (e *JumpError) Error() string {
	path, to := strings.Join(append([]string{e.From}, e.Path...), " -> "), e.Path[len(e.Path)-1]
	text := fmt.Sprintf(
		"one upgrade of Consul may span at most two release lines, and from %s to %s there are more. Apply these versions one after the "+
			"other: %s",
		e.From,
		to,
		path,
	)
	if strings.Contains(path, ".x") {
		text += ". For x, use the latest release of the line"
	}
	if v, err := ParseVersion(to); err == nil && lineOf(v).passed() {
		text += fmt.Sprintf(
			". But %s probably does not exist: %d.0 follows %d.%d",
			to,
			lineOf(v).major+1,
			lineOf(v).major,
			lastLines[lineOf(v).major],
		)
	}
	return text
}

// UpgradePath returns the versions to apply one after the other to get from one version of Consul to another,
// in the fewest steps; the last is to. Those between are release lines, "1.20.x": which of their releases does
// not matter, and the latest is best. For the same release, there are no steps. An upgrade is allowed if there
// is exactly one step.
//
// It returns a *DowngradeError, or another error for a text that is not a version, for a version older than
// 1.10, and for a version that is too far ahead to exist.
func UpgradePath(from, to string) ([]string, error) {
	a, err := ParseVersion(from)
	if err != nil {
		return nil, err
	}
	b, err := ParseVersion(to)
	if err != nil {
		return nil, err
	}
	switch c := compareVersions(a, b); {
	case c == 0:
		return nil, nil
	case c > 0:
		return nil, &DowngradeError{From: from, To: to}
	case a.Core().LessThan(oldestUpgrade):
		return nil, fmt.Errorf(
			"%q is older than %s: to upgrade it, follow https://developer.hashicorp.com/consul/docs/upgrade/instructions",
			from,
			oldestUpgrade,
		)
	}
	var path []string
	at, end := lineOf(a), lineOf(b)
	for lines := 1; at != end; lines++ {
		if lines > maxLines {
			return nil, fmt.Errorf("%q is more than %d release lines after %s: there is no such version", to, maxLines, from)
		}
		if at = at.next(end); lines%maxJump == 0 && at != end {
			path = append(path, at.String())
		}
	}
	return append(path, to), nil
}

// CheckUpgrade decides whether servers that run these versions, oldest first, may
// all be made to run another. It returns a *DowngradeError or a *JumpError if not.
//
//   - No server may be downgraded, and none go over more than two release lines.
//   - An incomplete upgrade may be reverted, to the oldest version that runs and to no other: takesBack then
//     says that newer versions run as well.
//   - It may be completed, whatever runs: to leave servers with different versions would be worse.
func CheckUpgrade(running []string, to string) (takesBack bool, err error) {
	if len(running) == 0 {
		return false, nil
	}
	oldest, newest := running[0], running[len(running)-1]
	rest, err := UpgradePath(newest, to)
	var downgrade *DowngradeError
	if errors.As(err, &downgrade) {
		if path, err := UpgradePath(oldest, to); err == nil && len(path) == 0 {
			return true, nil
		}
		if path, err := UpgradePath(oldest, newest); err == nil && len(path) > 0 {
			downgrade.Oldest = oldest
		}
		return false, downgrade
	}
	if err != nil || len(rest) == 0 {
		return false, err
	}
	path, err := UpgradePath(oldest, to)
	if err != nil || len(path) == 1 {
		return false, err
	}
	if oldest != newest {
		path = append([]string{newest}, rest...)
	}
	return false, &JumpError{From: oldest, Path: path}
}
