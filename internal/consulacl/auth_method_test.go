package consulacl_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

func TestCheckAuthConfig(t *testing.T) {
	for _, c := range []struct{ kind, config, want string }{
		{
			"jwt",
			`{"JWKSURL":"https://issuer/keys","JWKSCACert":"c","BoundAudiences":["a"],"ClaimMappings":{"sub":"user"},"ExpirationLeeway":1000000000}`,
			"",
		},
		{"jwt", `{"jwtvalidationpubkeys":["k"]}`, ""},
		{"jwt", `{"JWKSURL":"a","ClockSkewLeeway":"30s"}`, "ClockSkewLeeway is a number of nanoseconds: write 30000000000 for 30s"},
		{"jwt", `{"JWKSURL":"a","BoundIssuer":"30s"}`, ""},
		{"jwt", `{}`, "exactly one of JWTValidationPubKeys, JWKSURL and OIDCDiscoveryURL must be set"},
		{"jwt", `{"JWKSURL":"a","OIDCDiscoveryURL":"b"}`, "exactly one of"},
		{"jwt", `{"JWTValidationPubKeys":[],"JWKSURL":"","OIDCDiscoveryURL":null}`, "exactly one of"},
		{"jwt", `{"JWTValidationPubKeys":["k"],"JWKSCACert":"c"}`, "JWKSCACert requires JWKSURL"},
		{"jwt", `{"JWTValidationPubKeys":["k"],"OIDCDiscoveryCACert":"c"}`, "OIDCDiscoveryCACert requires OIDCDiscoveryURL"},
		{"jwt", `{"JWKSURL":"a","JWKSUrls":"b"}`, "the type jwt has no key JWKSUrls; its keys are JWTSupportedAlgs"},
		{"jwt", `{"OIDCDiscoveryURL":"a","OIDCClientSecret":"s"}`, "OIDCClientSecret requires Consul Enterprise"},
		{"jwt", `{"JWKSURL":"a","ServiceAccountJWT":"s"}`, "the type jwt has no key ServiceAccountJWT"},
		{"aws-iam", `{"BoundIAMPrincipalARNs":["arn:aws:iam::123456789012:role/r"]}`, ""},
		{"aws-iam", `{"BoundIAMPrincipalARNs":["arn"],"IAMEntityTags":["t"],"EnableIAMEntityDetails":true}`, ""},
		{"aws-iam", `{}`, "BoundIAMPrincipalARNs must be set"},
		{
			"aws-iam", `{"BoundIAMPrincipalARNs":["arn"],"IAMEntityTags":["t"],"EnableIAMEntityDetails":false}`,
			"IAMEntityTags requires EnableIAMEntityDetails",
		},
	} {
		var config map[string]any
		if err := json.Unmarshal([]byte(c.config), &config); err != nil {
			t.Fatal(err)
		}
		err := consulacl.CheckAuthConfig(c.kind, config)
		if !wanted.Error(err, c.want) {
			t.Errorf("%s %s: %v, want %q", c.kind, c.config, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), `"s"`) {
			t.Errorf("%s %s: the error shows a value", c.kind, c.config)
		}
	}
}

// Settings that are not known to be public are left out.
func TestPublicConfig_hasNoSecret(t *testing.T) {
	config := map[string]any{"Host": "h", "CACert": "c", "ServiceAccountJWT": "secret", "JWKSURL": "u", "OIDCClientSecret": "secret"}
	for kind, want := range map[string]map[string]any{
		"kubernetes": {"Host": "h", "CACert": "c"},
		"jwt":        {"JWKSURL": "u"},
		"oidc":       {},
	} {
		if got := consulacl.PublicConfig(kind, config); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
	}
}
