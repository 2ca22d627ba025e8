package server

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestUpgradePath(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to string
		want     []string
	}{
		"the same":                             {"1.22.7", "1.22.7", nil},
		"another build of the same":            {"1.22.7", "1.22.7-ubi", nil},
		"a patch":                              {"1.22.0", "1.22.7", []string{"1.22.7"}},
		"many patches":                         {"1.22.9", "1.22.10", []string{"1.22.10"}},
		"one line":                             {"1.21.5", "1.22.0", []string{"1.22.0"}},
		"two lines":                            {"1.20.0", "1.22.7", []string{"1.22.7"}},
		"three lines":                          {"1.19.2", "1.22.7", []string{"1.21.x", "1.22.7"}},
		"three lines, as in the documentation": {"1.12.9", "1.15.0", []string{"1.14.x", "1.15.0"}},
		"four lines":                           {"1.18.2", "1.22.7", []string{"1.20.x", "1.22.7"}},
		"seven lines":                          {"1.15.1", "1.22.7", []string{"1.17.x", "1.19.x", "1.21.x", "1.22.7"}},
		"one line to 2.0":                      {"1.22.7", "2.0.3", []string{"2.0.3"}},
		"two lines to 2.0":                     {"1.21.5", "2.0.3", []string{"2.0.3"}},
		"three lines to 2.0":                   {"1.20.6", "2.0.3", []string{"1.22.x", "2.0.3"}},
		"two lines to 2.1":                     {"1.22.7", "2.1.0", []string{"2.1.0"}},
		"three lines to 2.1":                   {"1.21.5", "2.1.0", []string{"2.0.x", "2.1.0"}},
		"from a pre-release to its release":    {"2.0.0-rc1", "2.0.0", []string{"2.0.0"}},
		"from one pre-release to the next":     {"2.0.0-beta1", "2.0.0-rc1", []string{"2.0.0-rc1"}},
		"to a pre-release":                     {"1.22.7", "2.0.0-rc1", []string{"2.0.0-rc1"}},
		"to a build of a later pre-release":    {"2.0.0-rc1", "2.0.0-rc2-ubi", []string{"2.0.0-rc2-ubi"}},
		"a line that is not known":             {"2.1.0", "2.3.0", []string{"2.3.0"}},
		"over lines that are not known":        {"2.1.0", "2.4.0", []string{"2.3.x", "2.4.0"}},
		"a line of 1 that is not known":        {"1.21.0", "1.25.0", []string{"1.23.x", "1.25.0"}},
		"to 2 from a line that is not known":   {"1.25.0", "2.0.0", []string{"2.0.0"}},
		"a major number that is not known":     {"2.1.4", "3.0.0", []string{"3.0.0"}},
		"from a line after the last known one": {"2.2.0", "3.1.0", []string{"3.1.0"}},
		"over a major number that is known":    {"1.22.7", "3.0.0", []string{"2.1.x", "3.0.0"}},
		"between two that are not known":       {"3.4.0", "4.2.0", []string{"4.1.x", "4.2.0"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := UpgradePath(tt.from, tt.to)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestUpgradePath_refusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to, want string
		downgrade      bool
	}{
		"a line down":  {"1.22.7", "1.21.0", "1.21.0 is older than 1.22.7, and Consul does not support downgrades", true},
		"a patch down": {"1.22.10", "1.22.9", "Keep 1.22.10, or declare a later version", true},
		"a major number down": {
			"2.0.0",
			"1.22.7",
			"create a second cluster with 1.22.7, and restore the snapshot from before the upgrade into it",
			true,
		},
		"to its pre-release":        {"2.0.0", "2.0.0-rc1", "is older than 2.0.0", true},
		"to an earlier pre-release": {"2.0.0-rc2", "2.0.0-rc1", "is older than 2.0.0-rc2", true},
		"no version to start from":  {"1.22", "1.22.7", `"1.22" is not a semantic version of three numbers`, false},
		"no version to go to":       {"1.22.7", "latest", `"latest" is not a semantic version of three numbers`, false},
		"a line to go to":           {"1.18.2", "1.20.x", `"1.20.x" is not a semantic version of three numbers`, false},
		"with metadata":             {"1.22.6", "1.22.7+build", `"1.22.7+build" is not a semantic version`, false},
		"with a v":                  {"v1.22.6", "1.22.7", `"v1.22.6" is not a semantic version`, false},
		"no number":                 {"1.22.7", "1.99999999999999999999.0", "is not a semantic version", false},
		"nothing":                   {"", "1.22.7", `"" is not a semantic version`, false},
		"before the rule":           {"1.9.17", "1.11.0", `"1.9.17" is older than 1.10.0: to upgrade it, follow https://`, false},
		"far away":                  {"1.22.7", "1.999999999.0", "is more than 100 release lines after 1.22.7", false},
		"far away in majors":        {"1.22.7", "999999999.0.0", "is more than 100 release lines after 1.22.7", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := UpgradePath(tt.from, tt.to)
			var downgrade *DowngradeError
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.As(err, &downgrade) != tt.downgrade || path != nil {
				t.Errorf("got %q, %v (%T), want %q", path, err, err, tt.want)
			}
		})
	}
}

func TestCheckUpgrade(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		running   []string
		to        string
		takesBack bool
		want      string // part of the error
	}{
		"nothing runs": {nil, "1.21.0", false, ""},
		"the same":     {[]string{"1.22.7"}, "1.22.7", false, ""},
		"two lines":    {[]string{"1.20.6"}, "1.22.7", false, ""},
		"three lines": {
			[]string{"1.19.2"},
			"1.22.7",
			false,
			"from 1.19.2 to 1.22.7 there are more. Apply these versions one after the other: 1.19.2 -> 1.21.x -> 1.22.7. For x, use the latest " +
				"release of the line",
		},
		"a line that does not exist": {
			[]string{"1.21.0"},
			"1.25.0",
			false,
			"1.21.0 -> 1.23.x -> 1.25.0. For x, use the latest release of the line. But 1.25.0 probably does not exist: 2.0 follows 1.22",
		},
		"a downgrade":                      {[]string{"1.22.7"}, "1.22.6", false, "Keep 1.22.7, or declare a later version"},
		"an incomplete upgrade is resumed": {[]string{"1.21.0", "1.22.7"}, "1.22.7", false, ""},
		"beyond an incomplete upgrade":     {[]string{"1.21.0", "1.22.7"}, "2.0.0", false, ""},
		"too far beyond an incomplete upgrade": {
			[]string{"1.19.2", "1.21.0"},
			"1.22.7",
			false,
			"one after the other: 1.19.2 -> 1.21.0 -> 1.22.7",
		},
		"an incomplete upgrade is reverted": {[]string{"1.21.0", "1.22.7"}, "1.21.0", true, ""},
		"but only to what runs": {
			[]string{"1.21.0", "1.22.7"},
			"1.21.5",
			false,
			"Complete the upgrade to 1.22.7 or a later version, or revert it to 1.21.0, which servers still run",
		},
		"and not before it": {
			[]string{"1.21.0", "1.22.7"},
			"1.20.6",
			false,
			"1.20.6 is older than 1.22.7, which servers already run",
		},
		"nor to one in the middle":                 {[]string{"1.20.6", "1.21.0", "1.22.7"}, "1.21.0", false, "revert it to 1.20.6"},
		"to another build of what still runs":      {[]string{"1.21.0", "1.22.7"}, "1.21.0-ubi", true, ""},
		"a downgrade of two builds of one release": {[]string{"1.22.7", "1.22.7-ubi"}, "1.22.6", false, "Keep 1.22.7-ubi, or declare"},
		"an incomplete illegal upgrade":            {[]string{"1.18.2", "1.22.7"}, "1.22.7", false, ""},
		"to what is not a version":                 {[]string{"1.22.7"}, "latest", false, "is not a semantic version"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			takesBack, err := CheckUpgrade(tt.running, tt.to)
			switch {
			case takesBack != tt.takesBack, (err == nil) != (tt.want == ""):
				t.Errorf("got %t, %v, want %t and %q", takesBack, err, tt.takesBack, tt.want)
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestSortVersions(t *testing.T) {
	t.Parallel()
	got := SortVersions([]string{"1.22.10", "2.0.0", "", "1.22.9", "2.0.0-rc1", "1.22.9", "latest", "1.22.9-ubi"})
	if want := []string{"1.22.9", "1.22.9-ubi", "1.22.10", "2.0.0-rc1", "2.0.0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
