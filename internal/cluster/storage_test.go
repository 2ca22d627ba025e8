package cluster

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// What cannot be done to volumes is refused at plan, with what works instead.
func TestJudgeStorage(t *testing.T) {
	t.Parallel()
	storage := func(size, class, onChange string) storageModel {
		return storageModel{Size: types.StringValue(size), Class: attr.OptionalString(class), OnChange: types.StringValue(onChange)}
	}
	const grow, rebuild = server.GrowVolumes, server.RebuildServers
	unknown := storage("1Gi", "fast", grow)
	unknown.Size, unknown.Class, unknown.OnChange = types.StringUnknown(), types.StringUnknown(), types.StringUnknown()
	classless := storage("1Gi", "", grow)
	classless.Class = types.StringValue("")
	tests := map[string]struct {
		before, after storageModel
		servers       int64
		byOthers      bool
		want          string // "" is allowed
	}{
		"nothing":                        {before: storage("1Gi", "fast", grow), after: storage("1Gi", "fast", grow), servers: 1},
		"growth, of a single server too": {before: storage("1Gi", "fast", grow), after: storage("2Gi", "fast", grow), servers: 1},
		"growth with on_delete": {
			before:   storage("1Gi", "fast", grow),
			after:    storage("2Gi", "fast", grow),
			servers:  3,
			byOthers: true,
		},
		"the same size in another unit": {before: storage("1Gi", "fast", grow), after: storage("1024Mi", "fast", grow), servers: 3},
		"what is not known yet":         {before: storage("1Gi", "fast", grow), after: unknown, servers: 3},
		"shrinking": {
			before:  storage("2Gi", "fast", grow),
			after:   storage("1Gi", "fast", grow),
			servers: 3,
			want:    "Keep at least 2Gi",
		},
		"shrinking by a rebuild": {
			before:  storage("2Gi", "fast", rebuild),
			after:   storage("1Gi", "fast", rebuild),
			servers: 3,
			want:    "Keep at least 2Gi",
		},
		"another class in place": {
			before:  storage("1Gi", "fast", grow),
			after:   storage("1Gi", "other", grow),
			servers: 3,
			want:    `storage.on_change = "rebuild"`,
		},
		"no class in place": {
			before:  storage("1Gi", "fast", grow),
			after:   storage("1Gi", "", grow),
			servers: 3,
			want:    "(fast)",
		},
		"explicitly no class in place": {
			before:  storage("1Gi", "", grow),
			after:   classless,
			servers: 3,
			want:    "the default class at creation",
		},
		"a class instead of none":    {before: classless, after: storage("1Gi", "fast", grow), servers: 3, want: "(none)"},
		"another class by a rebuild": {before: storage("1Gi", "", grow), after: storage("1Gi", "other", rebuild), servers: 3},
		"growth by a rebuild":        {before: storage("1Gi", "fast", grow), after: storage("2Gi", "fast", rebuild), servers: 3},
		"a rebuild of a single server": {
			before:  storage("1Gi", "fast", grow),
			after:   storage("2Gi", "fast", rebuild),
			servers: 1,
			want:    "Set replicas = 3",
		},
		"a rebuild of servers not counted yet": {before: storage("1Gi", "fast", grow), after: storage("2Gi", "fast", rebuild)},
		"a rebuild with on_delete": {
			before:   storage("1Gi", "fast", rebuild),
			after:    storage("2Gi", "fast", rebuild),
			servers:  3,
			byOthers: true,
			want:     `Set "rolling"`,
		},
		"a single server that may be rebuilt": {before: storage("1Gi", "fast", rebuild), after: storage("1Gi", "fast", rebuild), servers: 1},
		"a single server that gives up growth": {
			before:  storage("2Gi", "fast", grow),
			after:   storage("2Gi", "fast", rebuild),
			servers: 1,
			want:    "only copy of the data",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := judgeStorage(storageChange{id: "prod/consul", before: tt.before, after: tt.after, servers: tt.servers, byOthers: tt.byOthers})
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("refused: %+v", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].detail, tt.want)):
				t.Errorf("got %+v, want one refusal that says %q", got, tt.want)
			}
		})
	}
}
