package cluster

import (
	"strings"
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestUpgradePathFunction(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to string
		want     []string
		err      string
		argument int64 // of the error, -1 if it is about both
	}{
		"a path":      {from: "1.18.2", to: "2.0.3", want: []string{"1.20.x", "1.22.x", "2.0.3"}},
		"one step":    {from: "1.21.0", to: "1.22.7", want: []string{"1.22.7"}},
		"none":        {from: "1.22.7", to: "1.22.7"},
		"a downgrade": {from: "1.22.7", to: "1.21.0", err: "1.21.0 is older than 1.22.7", argument: -1},
		"no from":     {from: "1.22", to: "1.22.7", err: `"1.22" is not a semantic version`},
		"no to":       {from: "1.22.7", to: "1.23.x", err: `"1.23.x" is not a semantic version`, argument: 1},
		"neither": {
			from: "old",
			to:   "new",
			err:  "\"old\" is not a semantic version of three numbers, such as \"1.22.7\"\n\"new\" is not",
		},
		"Enterprise":       {from: "1.22.7-ent", to: "2.0.0", err: `"1.22.7-ent" is Consul Enterprise`},
		"before that rule": {from: "1.8.0", to: "1.10.12", err: `"1.8.0" is older than 1.10.0`, argument: -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp := function.RunResponse{Result: function.NewResultData(types.ListUnknown(types.StringType))}
			NewUpgradePathFunction().Run(t.Context(), function.RunRequest{
				Arguments: function.NewArgumentsData([]tfattr.Value{types.StringValue(tt.from), types.StringValue(tt.to)}),
			}, &resp)
			if tt.err != "" {
				argument := int64(-1)
				if resp.Error != nil && resp.Error.FunctionArgument != nil {
					argument = *resp.Error.FunctionArgument
				}
				if resp.Error == nil || !strings.Contains(resp.Error.Text, tt.err) || argument != tt.argument {
					t.Errorf("got %v of argument %d, want %q of %d", resp.Error, argument, tt.err, tt.argument)
				}
				return
			}
			steps := []tfattr.Value{}
			for _, s := range tt.want {
				steps = append(steps, types.StringValue(s))
			}
			if want := types.ListValueMust(types.StringType, steps); resp.Error != nil || !resp.Result.Value().Equal(want) {
				t.Errorf("got %v, %v, want %v", resp.Result.Value(), resp.Error, want)
			}
		})
	}
}
