package attr

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestDurationBetween_saysHowToWriteDays(t *testing.T) {
	for text, want := range map[string]string{
		"2160h": "",
		"90d":   `after: "90d" is not a duration. Write numbers with units, such as "500ms", "10s", or "1m30s". Write days in hours, such as "2160h" for 90 days.`,
		"1s":    "must be a duration between",
	} {
		var resp validator.StringResponse
		DurationBetween(
			time.Hour,
			3000*time.Hour,
		).ValidateString(
			t.Context(),
			validator.StringRequest{Path: path.Root("after"), ConfigValue: types.StringValue(text)},
			&resp,
		)
		got := ""
		for _, d := range resp.Diagnostics {
			got += d.Detail()
		}
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
