package aclrules

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
)

func TestParseRules_accepts(t *testing.T) {
	read := []Rule{{Resource: "key", Segment: "a", Policy: "read"}}
	tests := map[string]struct {
		text string
		want []Rule
	}{
		"nothing":                  {"", nil},
		"white space":              {" \n\t", nil},
		"a comment":                {"# key \"a\" {}\n// b\n/* c */", nil},
		"an empty JSON object":     {" {}", nil},
		"a block":                  {`key "a" { policy = "read" }`, read},
		"an argument":              {`key = { "a" = { policy = "read" } }`, read},
		"a block in a block":       {`key { "a" { policy = "read" } }`, read},
		"names without quotes":     {`key a { policy = "read" }`, read},
		"names with quotes":        {`"key" "a" { "policy" = "read" }`, read},
		"names in upper case":      {`KEY "a" { Policy = "read" }`, read},
		"a comma after a value":    {`key "a" { policy = "read", },`, read},
		"line ends of Windows":     {"key \"a\" {\r\n policy = \"read\"\r\n}\r\n", read},
		"JSON":                     {`{"key": {"a": {"policy": "read"}}}`, read},
		"JSON with lists":          {`{"key": [{"a": [{"policy": "read"}]}]}`, read},
		"JSON with escapes":        {"{\"key\": {\"\\u0061\": {\"policy\": \"read\"}}}", read},
		"the same block twice":     {`key "a" { policy = "read" } key "a" { policy = "read" }`, read},
		"the same in JSON twice":   {`{"key": {"a": {"policy": "read"}}, "key": {"a": {"policy": "read", "policy": "read"}}}`, read},
		"nothing for a resource":   {`key = {} key_prefix {}`, nil},
		"nothing in JSON":          {`{"key": {}, "node": [], "acl": null, "operator": ""}`, nil},
		"a disposition of nothing": {`acl = ""`, nil},
		"a segment of nothing":     {`key_prefix "" { policy = "list" }`, []Rule{{Resource: "key_prefix", Policy: "list"}}},
		"a segment with a quote":   {`key "a\"\\b" { policy = "deny" }`, []Rule{{Resource: "key", Segment: `a"\b`, Policy: "deny"}}},
		"a segment with ${}":       {`key "a/${b "c"}" { policy = "deny" }`, []Rule{{Resource: "key", Segment: `a/${b "c"}`, Policy: "deny"}}},
		"a segment called policy":  {`key "policy" { policy = "read" }`, []Rule{{Resource: "key", Segment: "policy", Policy: "read"}}},
		"intentions": {
			`service "a" { policy = "write" intentions = "deny" }`,
			[]Rule{{Resource: "service", Segment: "a", Policy: "write", Intentions: "deny"}},
		},
		"intentions of nothing": {
			`service "a" { policy = "write" intentions = "" }`,
			[]Rule{{Resource: "service", Segment: "a", Policy: "write"}},
		},
		"a segment exact and prefix": {
			`key "a" { policy = "read" } key_prefix "a" { policy = "write" }`,
			[]Rule{read[0], {Resource: "key_prefix", Segment: "a", Policy: "write"}},
		},
		"all that has no segments": {`acl = "read" keyring = "write" mesh = "deny" operator = "read" peering = "write"`, []Rule{
			{Resource: "acl", Policy: "read"}, {Resource: "keyring", Policy: "write"}, {Resource: "mesh", Policy: "deny"},
			{Resource: "operator", Policy: "read"}, {Resource: "peering", Policy: "write"},
		}},
	}
	for resource, segments := range resources {
		if segments {
			tests[resource] = struct {
				text string
				want []Rule
			}{resource + ` "a" { policy = "write" }`, []Rule{{Resource: resource, Segment: "a", Policy: "write"}}}
		}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := ParseRules(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.List(); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestParseRules_refuses(t *testing.T) {
	tests := map[string]struct {
		text string
		want string // the start of the error
	}{
		"a block that is not closed": {
			"acl = \"read\"\nkey \"a\" {\n  policy = \"read\"\n",
			"line 4, column 2: not HCL: object expected closing RBRACE",
		},
		"a value without quotes": {"operator = read", "line 1, column 12: not HCL: "},
		"a value that is missing": {
			"operator = \"read\"\nacl = # nothing\n",
			"line 2, column 5: not HCL: the text ends where a value is expected",
		},
		"a name alone":                {"acl", "line 1, column 5: not HCL: key 'acl' expected start of object"},
		"single quotes":               {"acl = 'read'", "line 1, column 7: not HCL: illegal char"},
		"a string without an end":     {"\n\nacl = \"read", "line 3, column 12: not HCL: literal not terminated"},
		"two separators":              {"key \"a\" { policy = \"read\" },,", "line 1, column 29: not HCL: "},
		"JSON that is cut off":        {`{"acl": "read"`, "line 1, column 14: not JSON: unexpected end of JSON input"},
		"JSON with a comma too many":  {"{\n  \"acl\": \"read\",\n}", "line 3, column 1: not JSON: invalid character '}'"},
		"JSON and more":               {"{}\nacl = \"read\"", "line 2, column 1: not JSON: invalid character 'a' after top-level value"},
		"JSON that Consul cannot":     {`{"key": {"\ud83d\ude00": {"policy": "read"}}}`, `Consul cannot read the string "\ud83d\ude00"`},
		"an escape that is too large": {`key "\777" { policy = "read" }`, `line 1, column 5: Consul cannot read the string "\777"`},

		"a name with a typo": {
			`key_prefx "a" { policy = "read" }`,
			"line 1, column 1: there is no resource key_prefx, and Consul would silently ignore it: did you mean key_prefix?",
		},
		"a name with a hyphen": {
			`"key-prefix" "a" { policy = "read" }`,
			"line 1, column 1: there is no resource key-prefix, and Consul would silently ignore it: did you mean key_prefix?",
		},
		"a plural": {
			`{"services": {"a": {"policy": "read"}}}`,
			"there is no resource services, and Consul would silently ignore it: did you mean service?",
		},
		"a name like no other": {
			`secrets = "read"`,
			"line 1, column 1: there is no resource secrets, and Consul would silently ignore it: the resources are acl, agent, agent_prefix, ",
		},
		"an attribute with a typo": {
			"key \"a\" {\n  polcy = \"read\"\n}",
			`line 2, column 3: key "a": there is no attribute polcy, and Consul would silently ignore it: did you mean policy?`,
		},
		"an attribute like no other": {
			`service "a" { policy = "read" tags = "b" }`,
			`line 1, column 31: service "a": there is no attribute tags, and Consul would silently ignore it: it supports policy and intentions`,
		},
		"a disposition with a typo": {
			`key "a" { policy = "raed" }`,
			`line 1, column 5: key "a": policy cannot be "raed": it must be "read", "list", "write" or "deny"`,
		},
		"list of what has no list": {
			`service_prefix "a" { policy = "list" }`,
			`line 1, column 16: service_prefix "a": policy cannot be "list", which only key and key_prefix support: it must be "read", "write" or "deny"`,
		},
		"list of the operator": {
			`operator = "list"`,
			`line 1, column 1: operator: policy cannot be "list", which only key and key_prefix support: it must be "read", "write" or "deny"`,
		},
		"intentions with a typo": {
			`service "a" { policy = "read" intentions = "allow" }`,
			`line 1, column 9: service "a": intentions cannot be "allow"`,
		},
		"list of intentions": {
			`service "a" { policy = "read" intentions = "list" }`,
			`line 1, column 9: service "a": intentions cannot be "list", which only key and key_prefix support`,
		},
		"upper case": {
			`key "a" { policy = "DENY" }`,
			`line 1, column 5: key "a": write policy in lower case, as "deny": Consul accepts "DENY", but any other rule takes precedence over it`,
		},
		"no policy":        {`key "a" {}`, `line 1, column 5: key "a" has no policy: it must be "read", "list", "write" or "deny"`},
		"an empty policy":  {`{"key": {"a": {"policy": null}}}`, `key "a" has no policy`},
		"intentions alone": {`service "a" { intentions = "read" }`, `line 1, column 9: service "a" has no policy`},
		"intentions of keys": {
			`key "a" { policy = "read" intentions = "read" }`,
			`line 1, column 27: key "a" does not support intentions`,
		},
		"no segment": {
			`key_prefix { policy = "read" }`,
			`line 1, column 14: key_prefix requires a segment with a block: write key_prefix "…" { policy = "read" }`,
		},
		"no segment and no block":   {`key_prefix = "read"`, `line 1, column 1: key_prefix requires a segment with a block`},
		"no block":                  {`key_prefix = { "a" = "read" }`, `line 1, column 16: key_prefix requires a segment with a block`},
		"no block in JSON":          {`{"key_prefix": {"a": "read"}}`, `key_prefix requires a segment with a block`},
		"two segments":              {`key "a" "b" { policy = "read" }`, `line 1, column 5: key "a" has one segment, but "b" follows it`},
		"three segments":            {`key "a" "b" "c" { policy = "read" }`, `line 1, column 5: key "a" has one segment, but "b" follows it`},
		"a list":                    {`key = [{ "a" = { policy = "read" } }]`, `line 1, column 1: key cannot be a list`},
		"a policy that is a list":   {`key "a" { policy = ["read"] }`, `line 1, column 11: key "a": write policy = "read"`},
		"a policy that is a number": {`key "a" { policy = 7 }`, `line 1, column 5: key "a": policy cannot be "7"`},
		"a here document": {
			"acl = <<E\nread\nE\n",
			`line 1, column 1: acl has no segments and cannot have a block: write acl = "read"`,
		},
		"a segment of the operator": {
			`operator "a" { policy = "read" }`,
			`line 1, column 1: operator has no segments and cannot have a block: write operator = "read"`,
		},
		"a block of the operator": {`operator { policy = "read" }`, `line 1, column 1: operator has no segments and cannot have a block`},
		"a resource of the past":  {`identity "a" { policy = "read" }`, `line 1, column 1: Consul no longer has the resource identity`},
		"namespaces": {
			`namespace "a" { acl = "read" }`,
			`line 1, column 1: namespace requires Consul Enterprise: this provider runs the community edition`,
		},
		"prefixes of namespaces": {`namespace_prefix "a" {}`, `line 1, column 1: namespace_prefix requires Consul Enterprise`},
		"partitions":             {`{"partition": {"a": {"mesh": "read"}}}`, `partition requires Consul Enterprise`},
		"prefixes of partitions": {`partition_prefix = {}`, `line 1, column 1: partition_prefix requires Consul Enterprise`},
		"Sentinel": {
			`key "a" { policy = "write" sentinel { code = "" } }`,
			`line 1, column 28: key "a": sentinel requires Consul Enterprise`,
		},
		"Sentinel alone, in JSON": {`{"key": {"a": {"sentinel": {"code": {}}}}}`, `sentinel requires Consul Enterprise`},
		"two policies of a key": {
			`key "a" { policy = "read" } key "a" { policy = "list" }`,
			`line 1, column 33: key "a" is declared twice, with policy "read" and with policy "list": Consul would apply policy "list", because deny takes precedence over write, write over list, and list over read; keep one`,
		},
		"deny and write": {
			`key "a" { policy = "deny" } key = { a = { policy = "write" } }`,
			`line 1, column 37: key "a" is declared twice, with policy "deny" and with policy "write": Consul would apply policy "deny"`,
		},
		"two intentions of a service": {
			`service "a" { policy = "read" } service "a" { policy = "read" intentions = "read" }`,
			`line 1, column 41: service "a" is declared twice, with policy "read" and with policy "read" and intentions "read": Consul would apply policy "read" and intentions "read"`,
		},
		"two policies in JSON": {
			`{"key": {"a": {"policy": "deny", "policy": "read"}}}`,
			`key "a" has the policy "deny" and "read": Consul would apply the last one; keep one`,
		},
		"two of the operator": {
			"operator = \"read\"\n\"operator\" = \"deny\"",
			`line 2, column 1: operator is declared twice, as "read" and as "deny": Consul would apply the last one; keep one`,
		},
		"two of the operator, in JSON": {
			`{"operator": "read", "operator": "deny"}`,
			`operator is declared twice, as "read" and as "deny": Consul would apply the last one; keep one`,
		},
		"an argument twice": {
			"acl = \"read\"\nacl = \"read\"",
			`line 2, column 1: acl is set a second time, after line 1, column 1: keep one`,
		},
		"a policy twice": {
			`key "a" { policy = "read" policy = "write" }`,
			`line 1, column 27: policy is set a second time, after line 1, column 11: keep one`,
		},
		"a segment twice": {
			`key = { "a" = { policy = "read" } "a" = { policy = "read" } }`,
			`line 1, column 35: "a" is set a second time, after line 1, column 9`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRules(tt.text)
			if err == nil {
				t.Fatal("it is accepted")
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			var e *RuleError
			if !errors.As(err, &e) {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

func TestParseRules_reportsAllErrors(t *testing.T) {
	_, err := ParseRules("acl = \"raed\"\nkeys \"a\" {}\nkey \"b\" {\n  polcy = \"read\"\n  policy = \"read\"\n}\n")
	if err == nil {
		t.Fatal("it is accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"line 1, column 1: acl: ", "line 2, column 1: there is no resource keys", "line 4, column 3: key \"b\": " +
		"there is no attribute polcy"} {
		if len(lines) != 3 || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("got %q, want %q", lines, want)
		}
	}
}

func TestRules_Equal(t *testing.T) {
	const text = "key_prefix \"a/\" {\n  policy = \"write\"\n}\n\noperator = \"read\"\n"
	tests := map[string]struct {
		other string
		want  bool
	}{
		"the same":            {text, true},
		"white space":         {"key_prefix \"a/\" { policy=\"write\" }operator = \"read\"", true},
		"comments":            {"# Vault\n" + text + "// the end", true},
		"the order":           {"operator = \"read\"\nkey_prefix \"a/\" { policy = \"write\" }", true},
		"separators":          {"key_prefix \"a/\" { policy = \"write\" },\noperator = \"read\",", true},
		"HCL or JSON":         {`{"operator": "read", "key_prefix": {"a/": {"policy": "write"}}}`, true},
		"another policy":      {strings.Replace(text, "write", "list", 1), false},
		"another segment":     {strings.Replace(text, "a/", "a", 1), false},
		"another resource":    {strings.Replace(text, "key_prefix", "key", 1), false},
		"one rule more":       {text + "acl = \"read\"", false},
		"one rule less":       {"operator = \"read\"", false},
		"nothing":             {"", false},
		"intentions set":      {text + `service "a" { policy = "read" intentions = "read" }`, false},
		"a segment in escape": {strings.Replace(text, "a/", `\u0061\x2f`, 1), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := mustParse(t, text), mustParse(t, tt.other)
			if a.Equal(b) != tt.want || b.Equal(a) != tt.want {
				t.Errorf("got %v", !tt.want)
			}
		})
	}
	// Unset intentions are not those that follow from the policy: another policy
	// of the same token may change what follows.
	if mustParse(t, `service "a" { policy = "read" }`).Equal(mustParse(t, `service "a" { policy = "read" intentions = "read" }`)) {
		t.Error("unset intentions are equal to set ones")
	}
	if !(Rules{}).Equal(mustParse(t, "# nothing")) {
		t.Error("the zero value is not equal to no rules")
	}
}

func mustParse(t *testing.T, text string) Rules {
	t.Helper()
	r, err := ParseRules(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestRules_HCL(t *testing.T) {
	r := mustParse(t, `{"service": {"b": {"policy": "read"}, "a": {"policy": "write", "intentions": "read"}},
		"operator": "read", "acl": "write", "key_prefix": {"": {"policy": "list"}}}`)
	const want = `acl      = "write"
operator = "read"

key_prefix "" {
  policy = "list"
}

service "a" {
  policy     = "write"
  intentions = "read"
}

service "b" {
  policy = "read"
}
`
	if got := r.HCL(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := mustParse(t, `key "b" { policy = "read" }`).HCL(); got != "key \"b\" {\n  policy = \"read\"\n}\n" {
		t.Errorf("got %q", got)
	}
	if got := (Rules{}).HCL(); got != "" {
		t.Errorf("no rules are %q", got)
	}
}

// generateRules generates rules with segments that are hard to write.
func generateRules(rnd *rand.Rand) []Rule {
	var names []string
	for n := range resources {
		names = append(names, n)
	}
	slices.Sort(names)
	parts := []string{
		"a",
		"b/",
		"",
		`"`,
		`\`,
		"$",
		"{",
		"}",
		"${",
		"${}",
		`${"`,
		"\n",
		"\t",
		"\r",
		"\r\n",
		"\x00",
		"\x07",
		"\x7f",
		"\xff",
		"\xe2\x82",
		"é",
		"\ufeff",
		"\ufffd",
		"\ue123",
		"\u2028",
		"🙂",
		"\U000e0001",
		"policy",
		"#",
		"//",
		"/*",
		",",
		"'",
		" ",
	}
	list := make([]Rule, rnd.IntN(6))
	for i := range list {
		r := Rule{Resource: names[rnd.IntN(len(names))]}
		legal := r.dispositions()
		r.Policy = legal[rnd.IntN(len(legal))]
		if resources[r.Resource] {
			for range rnd.IntN(5) {
				r.Segment += parts[rnd.IntN(len(parts))]
			}
		}
		if hasIntentions(r.Resource) && rnd.IntN(2) == 0 {
			r.Intentions = legal[rnd.IntN(len(legal))]
		}
		list[i] = r
	}
	return list
}

func TestRules_HCLMeansTheSame(t *testing.T) {
	for seed := range uint64(20_000) {
		list := generateRules(rand.New(rand.NewPCG(seed, 0))) //nolint:gosec // reproducible on purpose
		r, err := NewRules(list)
		if err != nil {
			continue // the same segment twice
		}
		text := r.HCL()
		again, err := ParseRules(text)
		if err != nil {
			t.Fatalf("seed %d: %v:\n%s", seed, err, text)
		}
		if !again.Equal(r) || again.HCL() != text {
			t.Fatalf("seed %d: %q became %q by\n%s", seed, r.List(), again.List(), text)
		}
	}
}

func TestNewRules_refuses(t *testing.T) {
	tests := map[string]struct {
		rules []Rule
		want  string
	}{
		"an unknown resource":     {[]Rule{{Resource: "keys", Segment: "a", Policy: "read"}}, "did you mean key?"},
		"a segment without need":  {[]Rule{{Resource: "acl", Segment: "a", Policy: "read"}}, "acl has no segments"},
		"an illegal policy":       {[]Rule{{Resource: "acl", Policy: "list"}}, "only key and key_prefix support"},
		"no policy":               {[]Rule{{Resource: "acl"}}, "acl has no policy"},
		"intentions of a key":     {[]Rule{{Resource: "key", Policy: "read", Intentions: "read"}}, "does not support intentions"},
		"illegal intentions":      {[]Rule{{Resource: "service", Policy: "read", Intentions: "list"}}, "intentions cannot be \"list\""},
		"two different about one": {[]Rule{{Resource: "acl", Policy: "read"}, {Resource: "acl", Policy: "write"}}, "acl is declared twice"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := NewRules(tt.rules); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// Rules from real use, with "}," between blocks, and the
// examples of the documentation.
func TestParseRules_files(t *testing.T) {
	originals, _ := filepath.Glob("testdata/rules/*.hcl")
	examples, _ := filepath.Glob("../../examples/rules/*.hcl")
	if len(originals) != 5 || len(examples) != 5 {
		t.Fatalf("there are %d originals and %d examples", len(originals), len(examples))
	}
	for _, file := range slices.Concat(originals, examples) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseRules(string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if n := strings.Count(string(text), "policy"); len(r.List()) != n {
			t.Errorf("%s: %d rules were found, there are %d", file, len(r.List()), n)
		}
	}
}

// decodedRules is the type into which Consul decodes rules with the HCL library.
type decodedRules struct {
	ACL           string         `hcl:"acl"`
	Keyring       string         `hcl:"keyring"`
	Mesh          string         `hcl:"mesh"`
	Operator      string         `hcl:"operator"`
	Peering       string         `hcl:"peering"`
	Agent         []*decodedRule `hcl:"agent"`
	AgentPrefix   []*decodedRule `hcl:"agent_prefix"`
	Event         []*decodedRule `hcl:"event"`
	EventPrefix   []*decodedRule `hcl:"event_prefix"`
	Key           []*decodedRule `hcl:"key"`
	KeyPrefix     []*decodedRule `hcl:"key_prefix"`
	Node          []*decodedRule `hcl:"node"`
	NodePrefix    []*decodedRule `hcl:"node_prefix"`
	Query         []*decodedRule `hcl:"query"`
	QueryPrefix   []*decodedRule `hcl:"query_prefix"`
	Service       []*decodedRule `hcl:"service"`
	ServicePrefix []*decodedRule `hcl:"service_prefix"`
	Session       []*decodedRule `hcl:"session"`
	SessionPrefix []*decodedRule `hcl:"session_prefix"`
}

type decodedRule struct {
	Segment    string `hcl:",key"`
	Policy     string
	Intentions string
}

// decode reads rules as Consul does.
func decode(text string) (rules []Rule, err error) {
	var d decodedRules
	if err := hcl.DecodeErrorOnDuplicates(&d, text); err != nil {
		return nil, err
	}
	v := reflect.ValueOf(d)
	for i := range v.NumField() {
		resource := v.Type().Field(i).Tag.Get("hcl")
		switch f := v.Field(i).Interface().(type) {
		case string:
			if f != "" {
				rules = append(rules, Rule{Resource: resource, Policy: f})
			}
		case []*decodedRule:
			for _, r := range f {
				rules = append(rules, Rule{Resource: resource, Segment: r.Segment, Policy: r.Policy, Intentions: r.Intentions})
			}
		}
	}
	return rules, nil
}

// What ParseRules accepts, the decoder of Consul accepts too, with the same meaning.
func FuzzParseRules(f *testing.F) {
	for seed := range uint64(200) {
		if r, err := NewRules(generateRules(rand.New(rand.NewPCG(seed, 1)))); err == nil { //nolint:gosec // reproducible on purpose
			f.Add(r.HCL())
		}
	}
	for _, text := range []string{
		`{"key": [{"a": [{"policy": "read"}]}], "acl": "read", "service": {"b": {"policy": "write", "intentions": "deny"}}}`,
		`key = { "a" = { policy = "list" } }, service "c" { policy = "read", intentions = "read" },`,
		`key { "a" { policy = "read" } } operator = "write" # comment`,
		`key "a" "b" "c" { policy = "read" }`, `key_prefix { policy = "read" }`, "acl = <<E\nread\nE\n", `key "\777" { policy = "read" }`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { agreesWithDecoder(t, text) })
}

// agreesWithDecoder checks that Consul accepts a text that ParseRules accepts, with the same meaning. It reports
// whether ParseRules accepts the text.
func agreesWithDecoder(t *testing.T, text string) bool {
	t.Helper()
	r, err := ParseRules(text)
	if err != nil {
		return false
	}
	decoded, err := decode(text)
	if err != nil {
		t.Fatalf("Consul refuses %q: %v", text, err)
	}
	meant, err := NewRules(decoded)
	if err != nil {
		t.Fatalf("Consul refuses %q: %v", text, err)
	}
	if !meant.Equal(r) {
		t.Fatalf("%q means %v, but was read as %v", text, meant.List(), r.List())
	}
	if again, err := ParseRules(r.HCL()); err != nil || !again.Equal(r) {
		t.Fatalf("%q became %q: %v", text, r.HCL(), err)
	}
	return true
}

// Texts that are almost right: rules with parts omitted, doubled, and swapped.
func TestParseRules_meansWhatConsulDecodes(t *testing.T) {
	seeds := []string{
		`key_prefix "a/" { policy = "list" } , service "b" { policy = "write" , intentions = "read" } operator = "read"`,
		`key = { "a" = { policy = "read" } , b = { policy = "deny" } } node { "c" { policy = "write" } } # comment`,
		`{ "key" : { "a" : { "policy" : "read" } , "b" : [ { "policy" : "list" } ] } , "service" : [ { "c" : { "policy" : "write" , "intentions" : "deny" } } ] , "acl" : "read" }`,
	}
	accepted := 0
	for seed := range uint64(50_000) {
		rnd := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // reproducible on purpose
		pieces := strings.Fields(seeds[rnd.IntN(len(seeds))])
		for range 1 + rnd.IntN(4) {
			i, j := rnd.IntN(len(pieces)), rnd.IntN(len(pieces))
			switch rnd.IntN(4) {
			case 0:
				pieces = slices.Delete(pieces, i, i+1)
			case 1:
				pieces = slices.Insert(pieces, i, pieces[j])
			case 2:
				pieces[i] = pieces[j]
			default:
				pieces[i], pieces[j] = pieces[j], pieces[i]
			}
		}
		if agreesWithDecoder(t, strings.Join(pieces, " ")) {
			accepted++
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d texts were accepted", accepted)
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"polcy": "policy", "policys": "policy", "Policy": "policy", "x": "", "intention": "intentions", "description": "",
	} {
		if got := nearest(name, []string{"policy", "intentions"}); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := fmt.Sprint(distance("", ""), distance("abc", ""), distance("", "ab"), distance("kitten", "sitting")); got != "0 3 2 3" {
		t.Errorf("distances are %s", got)
	}
}
