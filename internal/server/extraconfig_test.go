package server

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const keysFile = "testdata/agent-config-keys.txt"

// nestedIn wraps a value into the objects and lists of a path.
func nestedIn(path string, value any) any {
	first, rest, more := strings.Cut(path, ".")
	v := value
	if more {
		v = nestedIn(rest, value)
	}
	for strings.HasSuffix(first, "[]") {
		first, v = strings.TrimSuffix(first, "[]"), []any{v}
	}
	if first == "*" {
		first = "anything"
	}
	return map[string]any{first: v}
}

// For every key of Consul, it is known whether extra_config may set it, an attribute sets it, or why it is refused,
// in each spelling, in any case, and in a block that is a list.
func TestCheckExtraConfig_keysOfConsul(t *testing.T) {
	sample := map[string]any{"string": "x", "any": "x", "bool": true, "int": 1}
	text, err := os.ReadFile(keysFile)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			lines = append(lines, line)
			continue
		}
		key, kind, _ := strings.Cut(line, " ")
		kind, want, _ := strings.Cut(kind, " ")
		value, ok := sample[kind]
		if !ok {
			t.Fatalf("%s: no sample of a %s", key, kind)
		}
		got := verdict(t, nestedIn(key, value))
		for _, variant := range []string{strings.ToUpper(key), strings.Replace(key, "s", "ſ", 1), strings.Replace(key, ".", "[].", 1)} {
			if strings.Contains(key, "*") {
				break
			}
			if again := verdict(t, nestedIn(variant, value)); again != got {
				t.Errorf("%s: %s, but %s: %s", key, got, variant, again)
			}
		}
		if !*update && got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
		lines = append(lines, key+" "+kind+" "+got)
	}
	if *update {
		if err := os.WriteFile(keysFile, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// verdict is "allowed", or why a configuration is refused.
func verdict(t *testing.T, config any) string {
	t.Helper()
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err = CheckExtraConfig(string(b)); err == nil {
		return "allowed"
	}
	_, reason, _ := strings.Cut(err.Error(), "(")
	return strings.TrimSuffix(reason, ")")
}

// extra_config cannot set what the provider sets: it is merged last.
func TestCheckExtraConfig_whatIsRendered(t *testing.T) {
	free := []string{ // what may be changed
		"acl.down_policy", "node_meta", "raft_logstore.verification.enabled", "server_rejoin_age_max", "telemetry.disable_hostname",
	}
	for _, config := range []any{newAgentConfig(full()), newNodeConfig(full(), 0)} {
		var m map[string]any
		if err := json.Unmarshal([]byte(compactJSON(config)), &m); err != nil {
			t.Fatal(err)
		}
		leaves("", m, func(path string, value any) {
			allowed := verdict(t, nestedIn(path, value)) == "allowed"
			isFree := slices.ContainsFunc(free, func(f string) bool {
				return path == f || strings.HasPrefix(path, f+".") && path != "node_meta."+MetaConfigVersion
			})
			if allowed != isFree {
				t.Errorf("%s: may be set: %v", path, allowed)
			}
		})
	}
}

// A secret is refused wherever it is, by its name and by its form. A mere mention of one is not.
func TestCheckExtraConfig_secrets(t *testing.T) {
	tests := map[string]string{ // configuration → the path that is refused, "" for none
		`{"service":{"name":"a","token":"t"}}`:                                                   "service.token",
		`{"services":[{"name":"a"},{"name":"b","Token":"t"}]}`:                                   "services[1].Token",
		`{"services":[{"connect":{"sidecar_service":{"token":"t"}}}]}`:                           "services[0].connect.sidecar_service.token",
		`{"services":[{"checks":[{"header":{"Authorization":["Basic eDp5"]}}]}]}`:                "services[0].checks[0].header.Authorization",
		`{"check":{"header":{"X-Consul-Token":["t"]}}}`:                                          "check.header.X-Consul-Token",
		`{"check":{"http":"https://user:pass@example.com/"}}`:                                    "check.http",
		`{"check":{"http":"https://example.com/?api_key=abc"}}`:                                  "check.http",
		`{"check":{"args":["curl","-H","X-Consul-Token: abc"]}}`:                                 "check.args[2]",
		`{"check":{"args":["probe","--password","abc"]}}`:                                        "check.args[2]",
		`{"check":{"args":["probe","--password=abc"]}}`:                                          "check.args[1]",
		`{"watches":[{"type":"key","key":"a","token":"t"}]}`:                                     "watches[0].token",
		`{"watches":[{"http_handler_config":{"header":{"x-api-key":["k"]}}}]}`:                   "watches[0].http_handler_config.header.x-api-key",
		`{"ui_config":{"metrics_proxy":{"add_headers":[{"name":"Authorization","value":"b"}]}}}`: "ui_config.metrics_proxy.add_headers[0].value",
		`{"ui_config":{"metrics_provider_options_json":"{\"client_secret\": \"s\"}"}}`:           "ui_config.metrics_provider_options_json",
		`{"cloud":{"client_id":"i","client_secret":"s"}}`:                                        "cloud.client_secret",
		`{"telemetry":{"circonus_api_token":"t"}}`:                                               "telemetry.circonus_api_token",
		`{"auto_config":{"intro_token":"t"}}`:                                                    "auto_config.intro_token",
		`{"config_entries":{"bootstrap":[{"Kind":"inline-certificate","PrivateKey":"x"}]}}`:      "config_entries.bootstrap[0].PrivateKey",
		`{"config_entries":{"bootstrap":[{"Meta":{"a":"-----BEGIN EC PRIVATE KEY-----\n"}}]}}`:   "config_entries.bootstrap[0].Meta.a",
		`{"node_meta":{"login":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln"}}`:                     "node_meta.login",

		`{"acl":{"token_ttl":"30s","policy_ttl":"30s"}}`:                             "",
		`{"auto_config":{"intro_token_file":"/run/intro"}}`:                          "",
		`{"watches":[{"type":"key","key":"a/b"}]}`:                                   "",
		`{"watches":[{"type":"key","key":"a/b","token":""}]}`:                        "",
		`{"check":{"http":"https://example.com:8443/a@b?passing=1"}}`:                "",
		`{"check":{"args":["probe","--token-file","/run/token"]}}`:                   "",
		`{"ui_config":{"metrics_proxy":{"add_headers":[{"name":"A","value":"b"}]}}}`: "",
		`{"disable_kv_key_validation":true}`:                                         "",
	}
	for config, want := range tests {
		err := CheckExtraConfig(config)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", config, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), `must not set "`+want+`" (`+secret)):
			t.Errorf("%s: got %v, want a refusal of %s", config, err, want)
		}
	}
}

// Plaintext gRPC, as an adoption may need it, works with TLS: agents then have to be told the port over TLS.
// Otherwise, the configuration does not change.
func TestSharedConfig_grpcBesideTLS(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		extra string
		stage Stage
		want  int
	}{
		"no TLS":                   {`{"ports":{"grpc":8502}}`, StagePlain, 0},
		"TLS":                      {`{"ports":{"grpc":8502}}`, StageEncrypted, portGRPC},
		"TLS that is turned on":    {`{"ports":{"grpc":8502}}`, StageAccept, portGRPC},
		"halfway":                  {`{"ports":{"grpc":8502}}`, StageSend, portGRPC},
		"in upper case, in a list": {`{"Ports":[{"GRPC":8502}]}`, StageEncrypted, portGRPC},
		"no gRPC":                  {`{"ports":{"grpc":-1}}`, StageEncrypted, 0},
		"said otherwise":           {`{"ports":{"grpc":8502,"grpc_tls":-1}}`, StageEncrypted, 0},
		"nothing":                  {``, StageEncrypted, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := minimal()
			s.ExtraConfig, s.TLS.Stage = tt.extra, tt.stage
			want := any(json.Number(strconv.Itoa(tt.want)))
			if tt.want == 0 {
				want = nil
			}
			if got := valueAt(rendered(t, s), "ports.grpc_tls"); got != want {
				t.Errorf("ports.grpc_tls is %v, want %v", got, want)
			}
		})
	}
}
