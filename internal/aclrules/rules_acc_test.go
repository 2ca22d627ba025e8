package aclrules_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/aclrules"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func TestMain(m *testing.M) { acctest.Main(m) }

// Reasons to refuse what Consul accepts.
const (
	ignored   = "Consul ignores the name: a right would be missing without a word"
	twice     = "it is likely a mistake, and which one counts is not what the text says"
	upperCase = "Consul ignores the case where it checks, and not where it merges"
	sloppy    = "Consul's parser takes it by accident"
)

// rulesCorpus is texts of rules, by Consul's verdict.
var rulesCorpus = struct {
	// accepted by both, refused by both.
	accepted, refused []string
	// stricter are accepted by Consul and refused by ParseRules, for a reason.
	stricter map[string]string
}{
	accepted: []string{
		"",
		"\n\t ",
		"# nothing",
		"{}",
		`acl = "read"`,
		`acl = "write"`,
		`acl = ""`,
		`"operator" = "deny"`,
		`keyring = "read" mesh = "write" operator = "read" peering = "deny"`,
		`agent "a" { policy = "read" } agent_prefix "b" { policy = "write" }`,
		`event "a" { policy = "read" } event_prefix "b" { policy = "write" }`,
		`key "a" { policy = "read" } key_prefix "b" { policy = "write" }`,
		`key "a" { policy = "list" } key_prefix "b/" { policy = "list" }`,
		`node "a" { policy = "read" } node_prefix "b" { policy = "write" }`,
		`query "a" { policy = "read" } query_prefix "b" { policy = "write" }`,
		`service "a" { policy = "read" } service_prefix "b" { policy = "write" }`,
		`session "a" { policy = "read" } session_prefix "b" { policy = "write" }`,
		`service "a" { policy = "write" intentions = "read" }`,
		`service "a" { policy = "deny" intentions = "write" } service_prefix "b" { policy = "read" intentions = "deny" }`,
		`service "a" { policy = "write" intentions = "" }`,
		"key_prefix \"a/\" {\n  policy = \"write\"\n},\n\nsession_prefix \"\" {\n  policy = \"write\"\n}\n",
		`key "a" { policy = "read", }, key "b" { policy = "read" },`,
		"key \"a\" {\r\n  policy = \"read\"\r\n}\r\n",
		`key = { "a" = { policy = "read" } }`,
		`key = { "a" = { policy = "read" }, "b" = { policy = "write" } } operator = "read"`,
		`key { "a" { policy = "read" } b { policy = "write" } }`,
		`key a { policy = "read" }`,
		`"key" "a" { "policy" = "read" }`,
		`KEY "a" { Policy = "read" }`,
		`key = {} node {}`,
		`key "policy" { policy = "read" }`,
		`key_prefix "" { policy = "deny" }`,
		`key "a\"b\\c" { policy = "read" }`,
		`key "a/${b}" { policy = "read" }`,
		`key "é🙂" { policy = "read" }`,
		"/* a */ acl = \"read\" // b\n# c\nkey \"a\" { # d\n policy = \"read\" }",
		`key "a" { policy = "read" } key "a" { policy = "read" }`,
		`{"acl": "read"}`,
		`{"key": {"a": {"policy": "read"}, "b": {"policy": "list"}}, "operator": "write"}`,
		`{"key": [{"a": [{"policy": "read"}]}], "service": {"c": {"policy": "write", "intentions": "deny"}}}`,
		`{"key": {}, "node": [], "acl": null, "operator": ""}`,
		`  {"service_prefix": {"": {"policy": "read"}}}  `,
	},
	refused: []string{
		`acl`,
		`acl = read`,
		`acl = "raed"`,
		`acl = "list"`,
		`acl = 7`,
		`acl = true`,
		`acl = ["read"]`,
		`acl "a" { policy = "read" }`,
		`operator { policy = "read" }`,
		`operator = "list"`,
		`keyring = "allow"`,
		`mesh = { "a" = "read" }`,
		`key "a" {`,
		`key "a" { policy = "read" }}`,
		`key "a" { policy = "read" },,`,
		`key "a" { policy = }`,
		`key "a" { policy }`,
		`key "a" = { policy = "read" }`,
		`key "a" {}`,
		`key "a" { policy = "" }`,
		`key "a" { policy = "raed" }`,
		`key "a" { policy = 7 }`,
		`key "a" { policy = ["read"] }`,
		`key "a" { policy { } }`,
		`key = "read"`,
		`key = [{ "a" = { policy = "read" } }]`,
		`key = { "a" = "read" }`,
		`key "a" "b" { policy = "read" }`,
		`node "a" { policy = "list" }`,
		`service "a" { intentions = "read" }`,
		`service "a" { policy = "read" intentions = "list" }`,
		`service "a" { policy = "read" intentions = "allow" }`,
		`session_prefix "" { polcy = "read" }`,
		`key 'a' { policy = "read" }`,
		"key \"a\nb\" { policy = \"read\" }",
		`key "\q" { policy = "read" }`,
		"/* a",
		`[]`,
		`{"acl": "raed"}`,
		`{"acl": {"policy": "read"}}`,
		`{"key": {"a": "read"}}`,
		`{"key": {"a": {}}}`,
		`{"key": {"a": {"policy": null}}}`,
		`{"key": "read"}`,
		`{'key': {}}`,
		`{"acl" = "read"}`,
		"acl = \"read\"\nacl = \"write\"",
		"acl = \"read\"\nacl = \"read\"",
		`key "a" { policy = "read" policy = "write" }`,
		`key = { "a" = { policy = "read" } } key = { "b" = { policy = "read" } }`,
	},
	stricter: map[string]string{
		`key_prefx "a" { policy = "read" }`:                    ignored,
		`keys = "read"`:                                        ignored,
		`{"services": {"a": {"policy": "read"}}}`:              ignored,
		`identity "a" { policy = "read" }`:                     ignored,
		`key "a" { policy = "read" polcy = "write" }`:          ignored,
		`key "a" { policy = "read" intentions = "read" }`:      ignored,
		`namespace "a" { key_prefix "" { policy = "read" } }`:  ignored,
		`namespace_prefix "" { policy = "read" }`:              ignored,
		`partition "a" { mesh = "read" }`:                      ignored,
		`partition_prefix "" { mesh = "read" }`:                ignored,
		`key "a" { policy = "write" sentinel { code = "a" } }`: ignored,
		`acl = "READ"`:                 upperCase,
		`key "a" { policy = "Write" }`: upperCase,
		`service "a" { policy = "write" intentions = "DENY" }`:                                upperCase,
		`key "a" { policy = "read" } key "a" { policy = "write" }`:                            twice,
		`service "a" { policy = "read" } service "a" { policy = "read" intentions = "read" }`: twice,
		`{"acl": "read", "acl": "deny"}`:                                                      twice,
		`key_prefix { policy = "read" }`:                                                      sloppy,
		`key "a" "b" "c" { policy = "read" }`:                                                 sloppy,
		"acl =":                                                                               sloppy,
		"acl = \"read\"\n\"acl\" = \"write\"":                                                 twice,
		"acl = \"read\"\noperator =":                                                          sloppy,
		"acl = <<E\nE\n":                                                                      sloppy,
		`{"acl": "read"`:                                                                      sloppy,
		`{"acl": "read",}`:                                                                    sloppy,
		`{"acl": "read"} and more`:                                                            sloppy,
	},
}

// ParseRules has the same verdict as Consul on every text of the corpus, or a stricter one for a named reason. A
// token with accepted rules may do what the rules say.
func TestAccRules_agreeWithConsul(t *testing.T) {
	for _, version := range []string{acctest.ConsulVersion, acctest.OlderVersion} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t, version)
			check := func(text string, ours, theirs bool) {
				rules, err := aclrules.ParseRules(text)
				if (err == nil) != ours {
					t.Errorf("ParseRules says %v of %q", err, text)
				}
				id, refusal := a.put(text)
				if (refusal == nil) != theirs {
					t.Errorf("Consul says %v of %q", refusal, text)
				}
				if err == nil && refusal == nil {
					a.allows(text, id, rules.List())
				}
			}
			for _, text := range rulesCorpus.accepted {
				check(text, true, true)
			}
			for _, text := range rulesCorpus.refused {
				check(text, false, false)
			}
			for text := range rulesCorpus.stricter {
				check(text, false, true)
			}
			t.Logf(
				"%d texts, %d of them refused for reasons of our own",
				len(rulesCorpus.accepted)+len(rulesCorpus.refused)+len(rulesCorpus.stricter),
				len(rulesCorpus.stricter),
			)
		})
	}
}

// What the errors of ParseRules say about Consul is true.
func TestAccRules_errorsAreTrue(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, acctest.ConsulVersion)
	tests := []struct {
		name  string
		texts []string // policies of one token
		ask   question
		want  bool
	}{
		{"write wins over read", []string{`key "a" { policy = "write" } key "a" { policy = "read" }`}, question{"key", "a", "write"}, true},
		{"write wins over list", []string{`key "a" { policy = "list" } key "a" { policy = "write" }`}, question{"key", "a", "write"}, true},
		{"deny wins over write", []string{`key "a" { policy = "deny" } key "a" { policy = "write" }`}, question{"key", "a", "read"}, false},
		{
			"deny wins over write, in either order",
			[]string{`key "a" { policy = "write" } key "a" { policy = "deny" }`},
			question{"key", "a", "read"},
			false,
		},
		{"of arguments the last counts", []string{"operator = \"deny\"\n\"operator\" = \"read\""}, question{"operator", "", "read"}, true},
		{"of arguments the last counts, in JSON", []string{`{"operator": "read", "operator": "deny"}`}, question{"operator", "", "read"}, false},
		{"upper case without a segment is ignored", []string{`operator = "WRITE"`}, question{"operator", "", "read"}, false},
		{"lower case without a segment is not", []string{`operator = "write"`}, question{"operator", "", "read"}, true},
		{"upper case with a segment counts", []string{`key "a" { policy = "WRITE" }`}, question{"key", "a", "write"}, true},
		{
			"upper case loses to any other rule",
			[]string{`key "a" { policy = "DENY" }`, `key "a" { policy = "read" }`},
			question{"key", "a", "read"},
			true,
		},
		{"lower case does not", []string{`key "a" { policy = "deny" }`, `key "a" { policy = "read" }`}, question{"key", "a", "read"}, false},
		{"unknown names are ignored", []string{`key_prefx "a" { policy = "write" }`}, question{"key", "a", "read"}, false},
		{
			"what readers of a service may see of its intentions",
			[]string{`service "a" { policy = "write" }`},
			question{"intention", "a", "read"},
			true,
		},
		{"and change", []string{`service "a" { policy = "write" }`}, question{"intention", "a", "write"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ids []string
			for _, text := range tt.texts {
				id, err := a.put(text)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
			}
			if got := a.may(a.token(ids...), []question{tt.ask}); got[0] != tt.want {
				t.Errorf("%v: Consul says %v", tt.ask, got[0])
			}
		})
	}
}

// authority is a cluster that evaluates rules.
type authority struct {
	t       *testing.T
	cluster *consul.Cluster
	http    *http.Client
	secret  string
	n       int
}

func newAuthority(t *testing.T, version string) *authority {
	t.Helper()
	c, token := acctest.Bootstrapped(t, version)
	dialer := acctest.Kube(t).PodDialer(c.Namespace, server.PodName(c.Name, 0))
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.Dial(ctx, server.PortHTTP) },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &authority{t: t, cluster: c, secret: token, http: &http.Client{Transport: transport}}
}

// put creates a policy from a text and returns its ID, or why Consul refuses it.
func (a *authority) put(text string) (id string, refusal error) {
	a.t.Helper()
	a.n++
	err := a.cluster.Any(a.t.Context(), a.secret, func(client *api.Client) error {
		p, _, err := client.ACL().PolicyCreate(&api.ACLPolicy{Name: fmt.Sprintf("policy-%d", a.n), Rules: text}, nil)
		if err == nil {
			id = p.ID
		}
		return err
	})
	var status api.StatusError
	if err != nil && (!errors.As(err, &status) || status.Code != http.StatusInternalServerError) {
		a.t.Fatalf("%q: %v", text, err)
	}
	return id, err
}

// token creates a token with policies and returns its secret ID.
func (a *authority) token(policies ...string) (secret string) {
	a.t.Helper()
	token := &api.ACLToken{}
	for _, id := range policies {
		token.Policies = append(token.Policies, &api.ACLTokenPolicyLink{ID: id})
	}
	err := a.cluster.Any(a.t.Context(), a.secret, func(client *api.Client) error {
		made, _, err := client.ACL().TokenCreate(token, nil)
		if err == nil {
			secret = made.SecretID
		}
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return secret
}

// question is a question to /v1/internal/acl/authorize, which needs a POST: the API library has no function for it.
type question struct{ Resource, Segment, Access string }

// may returns what a token may do.
func (a *authority) may(secret string, questions []question) []bool {
	a.t.Helper()
	body, err := json.Marshal(questions)
	if err != nil {
		a.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, "http://consul/v1/internal/acl/authorize", bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("X-Consul-Token", secret)
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answers []struct{ Allow bool }
	if err := json.NewDecoder(resp.Body).Decode(&answers); err != nil || resp.StatusCode != http.StatusOK || len(answers) != len(questions) {
		a.t.Fatalf("%s: %d answers: %v", resp.Status, len(answers), err)
	}
	allowed := make([]bool, len(questions))
	for i := range answers {
		allowed[i] = answers[i].Allow
	}
	return allowed
}

// allows checks that a token with a policy may do what its rules say, and nothing else.
func (a *authority) allows(text, policy string, rules []aclrules.Rule) {
	a.t.Helper()
	var questions []question
	var want []bool
	for _, r := range rules {
		resource, prefix := strings.CutSuffix(r.Resource, "_prefix")
		segment := r.Segment
		if prefix {
			segment += "of this prefix"
		}
		questions = append(questions, question{resource, segment, "read"}, question{resource, segment, "write"})
		want = append(want, r.Policy != "deny", r.Policy == "write")
		if resource == "key" {
			questions = append(questions, question{resource, segment, "list"})
			want = append(want, r.Policy == "list" || r.Policy == "write")
		}
		if r.Intentions != "" {
			questions = append(questions, question{"intention", segment, "read"}, question{"intention", segment, "write"})
			want = append(want, r.Intentions != "deny", r.Intentions == "write")
		}
	}
	if len(questions) == 0 {
		return
	}
	if got := a.may(a.token(policy), questions); !slices.Equal(got, want) {
		a.t.Errorf("%q: to %v Consul says %v, the meaning says %v", text, questions, got, want)
	}
}
