package acl

import (
	"strings"
	"testing"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestRotationDue(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	rotation := func(trigger, after types.String) types.Object {
		return types.ObjectValueMust(
			map[string]tfattr.Type{"trigger": types.StringType, "after": types.StringType, "grace_period": types.StringType},
			map[string]tfattr.Value{"trigger": trigger, "after": after, "grace_period": types.StringNull()})
	}
	text, null := types.StringValue, types.StringNull()
	base := func() tokenModel {
		return tokenModel{Local: types.BoolValue(false), CreateTime: text("2026-06-01T10:00:00Z"), Rotation: rotation(text("1"), null)}
	}
	tests := map[string]struct {
		plan, state func(*tokenModel)
		want        string
	}{
		"nothing":            {nil, nil, ""},
		"trigger":            {func(m *tokenModel) { m.Rotation = rotation(text("2"), null) }, nil, "rotation"},
		"trigger is new":     {nil, func(m *tokenModel) { m.Rotation = types.ObjectNull(nil) }, ""},
		"trigger is removed": {func(m *tokenModel) { m.Rotation = types.ObjectNull(nil) }, nil, ""},
		"old enough":         {func(m *tokenModel) { m.Rotation = rotation(text("1"), text("2h")) }, nil, "rotation"},
		"not old enough":     {func(m *tokenModel) { m.Rotation = rotation(text("1"), text("121m")) }, nil, ""},
		"local":              {func(m *tokenModel) { m.Local = types.BoolValue(true) }, nil, "local"},
		"another life time": {
			func(m *tokenModel) { m.ExpirationTTL = text("2h") },
			func(m *tokenModel) { m.ExpirationTTL = text("1h") },
			"expiration_ttl",
		},
		"the same life time": {
			func(m *tokenModel) { m.ExpirationTTL = text("1h") },
			func(m *tokenModel) { m.ExpirationTTL, m.ExpirationTime = text("1h"), text("2026-06-01T13:00:00Z") }, "",
		},
		"another expiry": {
			func(m *tokenModel) { m.ExpirationTime = text("2026-06-01T14:00:00Z") },
			func(m *tokenModel) { m.ExpirationTime = text("2026-06-01T13:00:00Z") },
			"expiration_time",
		},
		"the same expiry": {
			func(m *tokenModel) { m.ExpirationTime = text("2026-06-01T15:00:00+02:00") },
			func(m *tokenModel) { m.ExpirationTime = text("2026-06-01T13:00:00Z") }, "",
		},
		"expiry is removed": {
			nil,
			func(m *tokenModel) { m.ExpirationTTL, m.ExpirationTime = text("1h"), text("2026-06-01T13:00:00Z") },
			"expiration_ttl",
		},
		"an expiry that was imported": {nil, func(m *tokenModel) { m.ExpirationTime = text("2026-06-01T13:00:00Z") }, ""},
		"an expiry that is not known": {
			func(m *tokenModel) { m.ExpirationTime = types.StringUnknown() },
			func(m *tokenModel) { m.ExpirationTime = text("2026-06-01T13:00:00Z") },
			"expiration_time",
		},
		"another chosen secret ID": {
			func(m *tokenModel) { m.SecretIDVersion = text("2") }, func(m *tokenModel) { m.SecretIDVersion = text("1") }, "secret_id_wo_version",
		},
		"the same chosen secret ID": {
			func(m *tokenModel) { m.SecretIDVersion = text("1") },
			func(m *tokenModel) { m.SecretIDVersion = text("1") },
			"",
		},
		"a first chosen secret ID":    {func(m *tokenModel) { m.SecretIDVersion = text("1") }, nil, "secret_id_wo_version"},
		"chosen secret ID is removed": {nil, func(m *tokenModel) { m.SecretIDVersion = text("1") }, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			plan, state := base(), base()
			if test.plan != nil {
				test.plan(&plan)
			}
			if test.state != nil {
				test.state(&state)
			}
			if got, reason := rotationDue(plan, state, false, now); got != test.want {
				t.Errorf("it is %q because %q, want %q", got, reason, test.want)
			}
		})
	}
}

// An expiration time that is no longer declared rotates the token, as a life time does. An imported one looks the
// same and is left alone.
func TestRotationDue_ifTheExpiryIsNoLongerDeclared(t *testing.T) {
	state := tokenModel{CreateTime: types.StringValue("2026-06-01T10:00:00Z"), ExpirationTime: types.StringValue("2026-06-01T13:00:00Z")}
	for declared, want := range map[bool]string{true: "expiration_time", false: ""} {
		if got, reason := rotationDue(tokenModel{}, state, declared, time.Now()); got != want {
			t.Errorf("declared %t: it is %q because %q, want %q", declared, got, reason, want)
		}
	}
	if got, reason := rotationDue(state, state, true, time.Now()); got != "" {
		t.Errorf("the same expiry: it is %q because %q", got, reason)
	}
}

func TestCheckExpiry(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for at, want := range map[string]string{
		"2026-06-01T12:01:00Z":      "",
		"2026-06-01T16:00:00+02:00": "",
		"2036-05-29T12:00:00Z":      "",
		"2026-06-01T12:00:59Z":      "is less than 1m0s ahead",
		"2026-06-01T12:00:00Z":      "has passed, and Consul creates no token that has expired. Set a later time, or use expiration_ttl",
		"2026-06-01T13:00:00+02:00": "has passed",
		"2036-05-29T12:00:01Z":      "is more than ten years ahead",
	} {
		if _, got := checkExpiry(types.StringValue(at), now); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
	_, unknown := checkExpiry(types.StringUnknown(), now)
	_, null := checkExpiry(types.StringNull(), now)
	if got := unknown + null; got != "" {
		t.Errorf("a time that is not known, and none: %q", got)
	}
}
