package server

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// livePath answers 200 while the agent runs, even without a leader. Request limits do not apply to it.
	livePath = "/v1/status/leader"
	// readyPath is a read that the leader answers: 500 while there is no leader. It names a service that does
	// not exist, so the answer is small, and is answered without a token (catalog reads filter instead of
	// refusing).
	readyPath = "/v1/health/service/readiness-of-a-server"
)

func startupProbe() *corev1.Probe {
	p := execProbe(votesScriptKey, 1, 1200)
	p.TimeoutSeconds = 10
	return p
}

// readinessProbe asks whether the leader answers through this server. Enforced request limits apply to readyPath: an overload would
// be answered with 429, and would remove all servers from the Service. Requests to which they do not apply require a token, and for
// the kubelet a refusal by the leader is a failure, so a script asks in this case. Otherwise the kubelet asks directly, which costs
// less.
func readinessProbe(s Spec) *corev1.Probe {
	if enforcesLimits(s) {
		return execProbe(readyScriptKey, 2, 2)
	}
	return httpProbe(s, readyPath, 2, 2, 5)
}

// enforcesLimits reports whether the servers refuse requests beyond a rate.
func enforcesLimits(s Spec) bool {
	var v any
	if s.ExtraConfig == "" || json.Unmarshal([]byte(s.ExtraConfig), &v) != nil {
		return false
	}
	for _, name := range []string{"limits", "request_limits", "mode"} {
		v = foldedKey(v, name)
	}
	mode, _ := v.(string)
	return strings.EqualFold(mode, "enforcing")
}

// foldedKey is the value of a key, which Consul compares without regard to case. Consul also takes a block as a list of one object.
func foldedKey(v any, name string) any {
	if l, ok := v.([]any); ok && len(l) == 1 {
		v = l[0]
	}
	m, _ := v.(map[string]any)
	for k, value := range m {
		if strings.EqualFold(k, name) {
			return value
		}
	}
	return nil
}

// execProbe runs a script of the ConfigMap.
func execProbe(script string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", configDir + "/" + script}}},
		PeriodSeconds:    period,
		FailureThreshold: failures,
		SuccessThreshold: 1,
		TimeoutSeconds:   5,
	}
}

// httpProbe sends a request to the pod's address. Kubelets do not verify certificates.
func httpProbe(s Spec, path string, period, failures, timeout int32) *corev1.Probe {
	get := corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}
	if s.TLS.onlyHTTPS() {
		get.Port, get.Scheme = intstr.FromString("https"), corev1.URISchemeHTTPS
	}
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &get},
		PeriodSeconds:    period,
		FailureThreshold: failures,
		SuccessThreshold: 1,
		TimeoutSeconds:   timeout,
	}
}
