package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Reasons to refuse a key of agent configuration without an attribute.
const (
	reserved   = "reserved for the provider"
	federated  = "federation with other datacenters is not supported"
	enterprise = "a setting of Consul Enterprise, which the servers do not run"
	internal   = "internal to Consul, which ignores it"
	bootstrap  = "use the resource consul_k8s_acl_bootstrap"
	secret     = "a secret, and extra_config is stored in the state and in a ConfigMap"
)

func attribute(name string) string { return "use the attribute " + name }

// renamed is the reason to refuse a deprecated name of a key that extra_config may set. Consul maps deprecated
// names to the current ones before it merges files, so what the provider sets with the current name would be
// lost.
func renamed(key string) string { return "deprecated, use " + key }

// ownedKeys are the paths of agent configuration that extra_config must not set, with the reason. A path
// includes everything below it. TestCheckExtraConfig_keysOfConsul compares them with all keys of Consul.
var ownedKeys = func() map[string]string {
	owned := maps.Clone(otherOwnedKeys)
	for _, s := range settings() {
		reason := s.reason
		if s.Name != "" {
			reason = attribute(s.Name)
		}
		for _, key := range append([]string{s.key}, s.aliases...) {
			if key != "" && reason != "" {
				owned[key] = reason
			}
		}
	}
	return owned
}()

// otherOwnedKeys are those that the table of settings does not have. All spellings of a setting are listed: deprecated
// keys are those of agent/config/deprecated.go of Consul 1.22.7.
var otherOwnedKeys = map[string]string{
	"node_id": reserved, "node_name": reserved, "protocol": reserved, "raft_protocol": reserved,
	// Servers reload when the provider tells them to, one at a time.
	"auto_reload_config": reserved,
	"autopilot":          attribute("autopilot"),
	"ui_dir":             renamed("ui_config.dir"), "ui_content_path": renamed("ui_config.content_path"),

	// With the BoltDB backend a server opens an empty log next to the one that it has.
	"raft_boltdb": renamed("raft_logstore.boltdb"),

	// Addresses and ports.
	"addresses": reserved, "serf_lan": reserved, "serf_wan": reserved,
	"advertise_addr": reserved, "advertise_addr_ipv4": reserved, "advertise_addr_ipv6": reserved,
	"ports.http": reserved, "ports.server": reserved, "ports.serf_lan": reserved, "ports.dns": reserved,

	// Joining.
	"retry_max": reserved, "start_join": reserved, "rejoin_after_leave": reserved,
	"retry_join_wan": federated, "retry_interval_wan": federated, "retry_max_wan": federated, "start_join_wan": federated,
	"primary_datacenter": federated, "acl_datacenter": federated, "primary_gateways": federated, "primary_gateways_interval": federated,
	"advertise_addr_wan": federated, "advertise_addr_wan_ipv4": federated, "advertise_addr_wan_ipv6": federated,
	"translate_wan_addrs": federated, "acl.enable_token_replication": federated, "enable_acl_replication": federated,
	"connect.enable_mesh_gateway_wan_federation": federated,

	// ACLs.
	"acl.tokens":             bootstrap,
	"acl_agent_master_token": bootstrap, "acl_agent_token": bootstrap,
	"acl_master_token": bootstrap, "acl_replication_token": bootstrap,
	"acl_token":       bootstrap,
	"acl_down_policy": renamed("acl.down_policy"),
	"acl_ttl":         renamed("acl.token_ttl"), "acl_enable_key_list_policy": renamed("acl.enable_key_list_policy"),

	// Encryption.
	"encrypt":              attribute("gossip.enabled"),
	"disable_keyring_file": attribute("gossip.enabled"),
	"tls":                  attribute("tls.enabled"), "ca_file": attribute("tls.enabled"), "ca_path": attribute("tls.enabled"),
	"cert_file": attribute("tls.enabled"), "key_file": attribute("tls.enabled"), "server_name": attribute("tls.enabled"),
	"verify_incoming": attribute("tls.enabled"), "verify_incoming_rpc": attribute("tls.enabled"), "verify_outgoing": attribute("tls.enabled"),
	"verify_server_hostname": attribute("tls.enabled"),
	"connect.ca_config":      reserved,
	// The last element of the URL's path is the key with which metrics are submitted.
	"telemetry.circonus_submission_url": secret,

	"audit": enterprise, "license_path": enterprise, "partition": enterprise, "read_replica": enterprise, "non_voting_server": enterprise,
	"reporting": enterprise, "segment": enterprise, "segments": enterprise, "snapshot_agent": enterprise,
	"acl.msp_disable_bootstrap": enterprise, "dns_config.prefer_namespace": enterprise,
	"license_poll_base_time": enterprise, "license_poll_max_time": enterprise, "license_update_base_time": enterprise,
	"license_update_max_time": enterprise,

	"ae_interval": internal, "build_date": internal, "check_deregister_interval_min": internal, "check_reap_interval": internal,
	"consul":   internal,
	"revision": internal, "segment_limit": internal, "segment_name_limit": internal,
	"sync_coordinate_interval_min": internal, "sync_coordinate_rate_target": internal,
	"version": internal, "version_metadata": internal, "version_prerelease": internal,
	"connect.test_ca_leaf_root_change_spread": internal, "peering.test_allow_peer_registrations": internal,
}

// CheckExtraConfig returns an error that says what is wrong with an extra_config: not a JSON
// object, a key that the provider owns, or a secret. Consul compares keys without regard to
// case, and so does this check.
func CheckExtraConfig(text string) error {
	d := json.NewDecoder(strings.NewReader(text))
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf(
			"not valid JSON (%w). Write it as an object in jsonencode, for example extra_config = jsonencode({ log_level = \"debug\" })",
			err,
		)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return errors.New("must be a JSON object, for example jsonencode({ log_level = \"debug\" })")
	}
	var refused []string
	checkKeys(m, "", "", func(path, reason string) { refused = append(refused, fmt.Sprintf("%q (%s)", path, reason)) })
	if len(refused) == 0 {
		return nil
	}
	slices.Sort(refused)
	return fmt.Errorf("must not set %s", strings.Join(slices.Compact(refused), ", "))
}

// checkKeys visits the values of a configuration, and refuses those that must not be set. key is the path of v
// as in ownedKeys, and path as the user reads it.
func checkKeys(v any, key, path string, refuse func(path, reason string)) {
	switch v := v.(type) {
	case map[string]any:
		_, hidden := secretPair(v)
		for k, e := range v {
			key, path := join(key, fold(k)), join(path, k)
			switch reason, owned := ownedKeys[key]; {
			case owned:
				refuse(path, reason)
			case key == versionKey || key == "node_meta."+MetaRestart:
				refuse(path, reserved)
			case k == hidden, isSecretName(k) && holdsText(e):
				refuse(path, secret)
			default:
				checkKeys(e, key, path, refuse)
			}
		}
	case []any: // Consul also takes a block as a list of one object
		for i, e := range v {
			path := fmt.Sprintf("%s[%d]", path, i)
			if isOption(v, i) {
				refuse(path, secret)
				continue
			}
			checkKeys(e, key, path, refuse)
		}
	case string:
		if hasSecret(v) {
			refuse(path, secret)
		}
	}
}

// extraPorts are the ports that extra_config sets, by their keys in lower case.
func extraPorts(s Spec) map[string]int {
	var extra map[string]any
	if json.Unmarshal([]byte(s.ExtraConfig), &extra) != nil {
		return nil
	}
	ports := map[string]int{}
	leaves("", unlisted(extra), func(path string, value any) {
		if name, ok := strings.CutPrefix(path, "ports."); ok {
			n, _ := value.(float64)
			ports[name] = int(n)
		}
	})
	return ports
}

// unlisted returns an object with its keys in lower case, in which a block that is a list of one object is
// replaced by that object.
func unlisted(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if l, ok := v.([]any); ok && len(l) == 1 {
			if o, ok := l[0].(map[string]any); ok {
				v = o
			}
		}
		if o, ok := v.(map[string]any); ok {
			v = unlisted(o)
		}
		out[fold(k)] = v
	}
	return out
}

// fold maps what Consul treats as the same key to the same text (strings.EqualFold, which also handles letters
// outside ASCII whose upper case is in it).
func fold(key string) string { return strings.ToLower(strings.ToUpper(key)) }

// A secret is recognized by its name, or by the format of the text.
var (
	// secretNames are parts of the names of secrets, without word separators.
	secretNames = []string{
		"token", "secret", "password", "passwd", "passphrase", "credential", "authorization", "bearer", "cookie",
		"apikey", "privatekey", "accesskey", "accountkey", "masterkey", "sharedkey", "signingkey", "encryptionkey",
	}
	// plainNames are the ends of names that only describe a secret: where it is, or how long it is valid.
	plainNames = []string{"file", "path", "dir", "url", "ttl", "type", "accessorid"}

	notInWord = regexp.MustCompile(`[^a-z0-9]+`)

	// secretTexts match a private key in PEM, a URL with a password, and a JSON Web Token.
	secretTexts = regexp.MustCompile(
		`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----|[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@|\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]+`,
	)
	// assignments match name=value and name: value, as in a URL, a header, a flag and in JSON.
	assignments = regexp.MustCompile(`([\w.-]+)["']?\s*[=:]\s*["']?[^\s"'&,;]`)
)

// isSecretName reports whether the name is that of a secret.
func isSecretName(name string) bool {
	name = notInWord.ReplaceAllString(fold(name), "")
	return slices.ContainsFunc(secretNames, func(part string) bool { return strings.Contains(name, part) }) &&
		!slices.ContainsFunc(plainNames, func(end string) bool { return strings.HasSuffix(name, end) })
}

// holdsText reports whether a value is a text that is not empty, or a list that contains one.
func holdsText(v any) bool {
	switch v := v.(type) {
	case string:
		return v != ""
	case []any:
		return slices.ContainsFunc(v, holdsText)
	default:
		return false
	}
}

// secretPair returns the name in an object of a name and a value, and the key of the value if the name is that
// of a secret, for example of a header.
func secretPair(m map[string]any) (name, key string) {
	for k, v := range m {
		switch text, _ := v.(string); fold(k) {
		case "name":
			name = text
		case "value":
			key = k
		}
	}
	if !isSecretName(name) {
		return name, ""
	}
	return name, key
}

// isOption reports whether an element of a list follows the flag of a secret, as in the arguments of a command.
func isOption(list []any, i int) bool {
	if i == 0 {
		return false
	}
	flag, _ := list[i-1].(string)
	return strings.HasPrefix(flag, "-") && !strings.ContainsAny(flag, "=: ") && isSecretName(flag) && holdsText(list[i])
}

// hasSecret reports whether a text contains a secret.
func hasSecret(text string) bool {
	if secretTexts.MatchString(text) {
		return true
	}
	return slices.ContainsFunc(assignments.FindAllStringSubmatch(text, -1), func(m []string) bool { return isSecretName(m[1]) })
}
