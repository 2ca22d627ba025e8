package server

import (
	"os"
	"strings"
	"testing"
)

// The guide says of every setting how a change of it is applied.
func TestGuide_saysHowEverySettingIsChanged(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../templates/guides/changes.md")
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{} // the effects in the row of a setting
	for line := range strings.Lines(string(guide)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for i, name := range strings.Split(cells[3], "`") {
			if i%2 == 1 {
				says[name] = strings.TrimSpace(cells[1])
			}
		}
	}
	row := func(name string) string { // of the setting, or of what it is a part of
		for says[name] == "" && strings.Contains(name, ".") {
			name = name[:strings.LastIndex(name, ".")]
		}
		return says[name]
	}

	before := minimal() // with everything in use
	before.Gossip.Stage, before.TLS.Stage, before.ACL.Enabled = StageEncrypted, StageEncrypted, true
	before.Gossip.Rotation.Trigger, before.TLS.CATrigger = "1", "1"
	changes := everyChange()
	for _, refused := range []string{"datacenter", "domain"} { // with TLS
		delete(changes, refused)
	}
	changes["extra_config.node_meta.rack"] = func(s *Spec) { s.ExtraConfig = `{"node_meta":{"rack":"1"}}` }
	for path := range reloadable {
		if row("extra_config."+path) != string(Reload) {
			t.Errorf("the guide does not say that extra_config.%s is reloaded", path)
		}
	}
	for name, change := range changes {
		after := before
		change(&after)
		for _, c := range Changes(before, after) {
			effect := c.Effect
			switch {
			case effect == Restart && PodHash(before) == PodHash(after):
				effect = RestartInPlace
			case effect == Restart:
				effect = ReplacePods
			}
			if c.Setting == name && !strings.Contains(row(name), string(effect)) {
				t.Errorf("the guide says of %s: %q, and a change is: %s", name, row(name), effect)
			}
		}
	}
}
