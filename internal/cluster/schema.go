package cluster

import (
	"context"
	"regexp"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Default timeouts. A create or an update that times out loses nothing: the next
// apply resumes it.
const (
	defaultCreateTimeout = 15 * time.Minute
	defaultUpdateTimeout = 60 * time.Minute
	defaultDeleteTimeout = 15 * time.Minute
)

// maxNameLength leaves room for "-server-<ordinal>" and the revision hash that
// StatefulSet pods carry as a label of at most 63 characters.
const maxNameLength = 45

// Defaults of the declared attributes.
var (
	defaultRetention = types.ObjectValueMust(retentionTypes, map[string]tfattr.Value{
		"when_deleted": types.StringValue("Retain"), "when_scaled": types.StringValue("Retain"),
	})
	defaultSize    = "10Gi"
	defaultStorage = types.ObjectValueMust(storageTypes, map[string]tfattr.Value{
		"size": types.StringValue(defaultSize), "class": types.StringNull(), "on_change": types.StringValue(server.GrowVolumes),
		"retention": defaultRetention,
	})
	defaultRequests = types.MapValueMust(types.StringType, map[string]tfattr.Value{
		"cpu": types.StringValue("500m"), "memory": types.StringValue("1Gi"),
	})
	defaultResources = types.ObjectValueMust(attr.ResourcesTypes, map[string]tfattr.Value{
		"requests": defaultRequests, "limits": types.MapNull(types.StringType),
	})
	defaultPlacement = types.ObjectValueMust(placementTypes, map[string]tfattr.Value{
		"anti_affinity":   types.StringValue(server.AntiAffinityRequired),
		"topology_spread": types.ListNull(types.ObjectType{AttrTypes: spreadTypes}),
		"node_selector":   types.MapNull(types.StringType),
		"tolerations":     types.ListNull(types.ObjectType{AttrTypes: attr.TolerationTypes}),
		"priority_class":  types.StringNull(),
	})
	defaultPerformance = types.ObjectValueMust(performanceTypes, map[string]tfattr.Value{
		"raft_multiplier":  types.Int64Value(1),
		"leave_drain_time": types.StringValue("0s"),
		"rpc_hold_timeout": types.StringValue("7s"),
	})
	defaultTelemetry = types.ObjectValueMust(telemetryTypes, map[string]tfattr.Value{
		"prometheus_retention_time": types.StringValue("1m"),
	})
	defaultAutopilot = types.ObjectValueMust(autopilotTypes, map[string]tfattr.Value{
		"cleanup_dead_servers":      types.BoolValue(server.DefaultAutopilot.CleanupDeadServers),
		"last_contact_threshold":    types.StringValue(attr.ShortDuration(server.DefaultAutopilot.LastContactThreshold)),
		"max_trailing_logs":         types.Int64Value(int64(server.DefaultAutopilot.MaxTrailingLogs)),
		"server_stabilization_time": types.StringValue(attr.ShortDuration(server.DefaultAutopilot.ServerStabilizationTime)),
	})
	defaultUpdate = types.ObjectValueMust(updateTypes, map[string]tfattr.Value{
		"strategy":        types.StringValue(server.DefaultUpdate.Strategy),
		"pause_after":     types.Int64Value(server.DefaultUpdate.PauseAfter),
		"on_failure":      types.StringValue(server.DefaultUpdate.OnFailure),
		"snapshot_before": types.BoolValue(server.DefaultUpdate.SnapshotBefore),
		"snapshot_to":     types.ObjectNull(snapshotToTypes),
		"server_timeout":  types.StringValue(attr.ShortDuration(server.DefaultUpdate.ServerTimeout)),
	})
	defaultService = types.ObjectValueMust(serviceTypes, map[string]tfattr.Value{
		"type": types.StringValue(string(corev1.ServiceTypeClusterIP)), "annotations": types.MapNull(types.StringType),
		"load_balancer_class": types.StringNull(), "load_balancer_source_ranges": types.ListNull(types.StringType),
		"cluster_ip": types.StringNull(), "ip_families": types.ListNull(types.StringType), "ip_family_policy": types.StringNull(),
		"external_traffic_policy": types.StringNull(), "node_ports": types.ObjectNull(nodePortTypes),
	})
	defaultACL = types.ObjectValueMust(aclTypes, map[string]tfattr.Value{
		"enabled": types.BoolValue(false), "default_policy": types.StringValue("deny"),
	})
)

// Schema implements resource.Resource.
func (r *Resource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	pod := podAttributes()
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages a cluster of Consul servers in Kubernetes: a StatefulSet with its configuration, Services, " +
			"ServiceAccount, and PodDisruptionBudget.\n\n" +
			"A create waits until every server is a healthy voter and one of them is the leader. If that takes longer than the create timeout, " +
			"the resource is not tainted. Instead, " +
			"the create ends with a warning that explains what is missing, `ready` is false, and the next apply resumes it.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "ID of the cluster, `<namespace>/<name>`. Other resources take it as `cluster`.",
			},
			"name": schema.StringAttribute{
				Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				Validators: []validator.String{attr.DNSLabel(maxNameLength, true)},
				MarkdownDescription: "Name of the cluster. The client Service has this name. The StatefulSet, and everything else that belongs to " +
					"the servers, has this name with the suffix `-server`. " +
					"Must start with a letter and have at most 45 characters. A change replaces the cluster.",
			},
			"namespace": schema.StringAttribute{
				Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				Validators:          []validator.String{attr.DNSLabel(63, false)},
				MarkdownDescription: "Namespace of the servers. A change replaces the cluster.",
			},
			"create_namespace": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the cluster creates its namespace. Defaults to `false`. If `true`, the namespace must not exist, " +
					"unless an earlier cluster of the same name created it. The namespace is deleted with the cluster if it is empty. If the cluster " +
					"needs a Secret that you bring, such as the one of `tls.ca_secret`, `gossip.key_secret`, `restore_from`, or `image_pull_secrets`, " +
					"create the namespace and the Secret outside of this resource.",
			},
			"version": schema.StringAttribute{
				Optional: true, Computed: true, Validators: []validator.String{versionValidator{}},
				MarkdownDescription: "Consul version, such as `1.22.7`. Must be 1.15 or later. Required unless it is the tag of `image`. A change " +
					"restarts the servers one at a time. " +
					"An upgrade can advance at most two release lines, and a downgrade is refused. If an upgrade would advance more, the plan refuses " +
					"it and names the versions to apply one after the other, as the function `upgrade_path` does.",
			},
			"image": schema.StringAttribute{
				Optional: true, Computed: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "Image of the servers, by tag, by digest (`docker.io/hashicorp/consul:1.22.7@sha256:…`), or by both. If it has " +
					"both, the digest decides. If the tag is not a Consul version, `version` is required, and no plan can check that the two agree, so " +
					"prefer tag and digest together. Defaults to `docker.io/hashicorp/consul:<version>`. A change restarts the servers one at a time. " +
					"In addition to `consul`, the image needs a shell (`sh`) with `cat`, `cp`, `date`, `grep`, `ls`, `mkdir`, `mv`, `rm`, `sed`, " +
					"`sleep`, `sort`, `timeout`, `touch`, and `tr`, and either `wget` or `curl`. With `tls.enabled`, it needs `curl`. " +
					"When a server starts, the container `await-peer-removal` logs what is missing. Snapshots before upgrades and backups also use " +
					"`cut`, `head`, `sha256sum`, `sync`, `tail`, and `wc`.",
			},
			"replicas": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(3),
				Validators: []validator.Int64{replicasValidator{}},
				MarkdownDescription: "Number of servers: 1, 3, 5, or 7. Defaults to `3`. Three servers survive the loss of one, five survive the " +
					"loss of two. " +
					"Servers are added or removed one at a time, without restarting the others.",
			},
			"datacenter": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("dc1"),
				Validators: []validator.String{stringvalidator.RegexMatches(regexp.MustCompile(`^[a-z0-9_-]{1,63}$`),
					"must have only lower-case letters, digits, hyphens, and underscores, and at most 63 of them")},
				MarkdownDescription: "Name of the Consul datacenter. Defaults to `dc1`. Cannot be changed, because servers of another datacenter " +
					"refuse the existing data.",
			},
			"domain": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("consul"),
				Validators: []validator.String{
					stringvalidator.RegexMatches(regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`),
						"must be a DNS domain in lower case, without a dot at the end"),
				},
				MarkdownDescription: "DNS domain that Consul answers for. Defaults to `consul`. A change restarts the servers, and is refused while " +
					"`tls.enabled` is true.",
			},
			"storage": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultStorage),
				MarkdownDescription: "Volume of each server.",
				Attributes: map[string]schema.Attribute{
					"size": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(defaultSize),
						Validators:    []validator.String{attr.PositiveQuantity()},
						PlanModifiers: []planmodifier.String{attr.KeepSameQuantity()},
						MarkdownDescription: "Size of each volume, as a Kubernetes quantity. Defaults to `10Gi`. `on_change` sets how a larger size is " +
							"applied. Volumes never shrink.",
					},
					"class": schema.StringAttribute{
						Optional: true, Validators: []validator.String{attr.Check("the name of a storage class", checkStorageClass)},
						MarkdownDescription: "Storage class of the volumes. Defaults to the default class of the Kubernetes cluster. `\"\"` means no " +
							"class: the volume claims bind to PersistentVolumes without a class that you create. Create one for each server, " +
							"and one for the snapshot before an upgrade unless `update.snapshot_to` is set or `update.snapshot_before` is false. The class " +
							"can be changed only with `on_change = \"rebuild\"`.",
					},
					"on_change": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(server.GrowVolumes),
						Validators: []validator.String{oneOf(server.GrowVolumes, server.RebuildServers)},
						MarkdownDescription: "What a change of `size` or `class` does: `grow` or `rebuild`. Defaults to `grow`, which grows the volumes " +
							"in place. This requires a storage class that allows expansion (`allowVolumeExpansion`), and restarts " +
							"a server only if its file system must be mounted again to grow. `rebuild` restarts the servers one at a time, followers first, " +
							"each with a new, empty volume that the server fills from the leader. " +
							"`rebuild` requires at least three servers. The reclaim policy of the old PersistentVolumes determines what happens to the old " +
							"volumes.",
					},
					"retention": schema.SingleNestedAttribute{
						Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultRetention),
						MarkdownDescription: "What happens to volumes that are no longer used, in the terms of the `persistentVolumeClaimRetentionPolicy` " +
							"of the StatefulSet.",
						Attributes: map[string]schema.Attribute{
							"when_deleted": retentionAttribute(
								"when the cluster is deleted. Defaults to `Retain`. A new cluster of the same name starts with retained volumes and their data. " +
									"Its plan names these volumes, and refuses a `version` that is older than the data",
							),
							"when_scaled": retentionAttribute("when a smaller `replicas` removes its server. Defaults to `Retain`"),
						},
					},
				},
			},
			"resources": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultResources),
				MarkdownDescription: "Compute resources of each server, as quantities by resource name. A change restarts the servers.",
				Attributes: map[string]schema.Attribute{
					"requests": schema.MapAttribute{
						Optional: true, Computed: true, ElementType: types.StringType, Validators: attr.Quantities(),
						Default:             mapdefault.StaticValue(defaultRequests),
						MarkdownDescription: "Resource requests. Defaults to `{ cpu = \"500m\", memory = \"1Gi\" }`.",
					},
					"limits": schema.MapAttribute{
						Optional: true, ElementType: types.StringType, Validators: attr.Quantities(),
						MarkdownDescription: "Resource limits. Not set by default. A CPU limit throttles Raft and causes elections.",
					},
				},
			},
			"placement":    placementAttribute(),
			"performance":  performanceAttribute(),
			"autopilot":    autopilotAttribute(),
			"update":       updateAttribute(),
			"jobs":         jobsAttribute(),
			"adopt":        adoptAttribute(),
			"restore_from": restoreFromAttribute(),
			"recovery":     recoveryAttribute(),
			"telemetry": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultTelemetry),
				MarkdownDescription: "Metrics of the servers.",
				Attributes: map[string]schema.Attribute{
					"prometheus_retention_time": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString("1m"),
						PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
						Validators:    []validator.String{attr.DurationBetween(0, 7*24*time.Hour)},
						MarkdownDescription: "How long `/v1/agent/metrics?format=prometheus` keeps metrics. Defaults to `1m`. Set at least twice the " +
							"scrape interval. `0s` disables Prometheus metrics. A change restarts the servers.",
					},
				},
			},
			"service": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultService),
				MarkdownDescription: "Client Service: HTTP on port 8500, HTTPS on port `tls.https_port` if `tls.enabled` is true, and DNS on port 53.",
				Attributes: map[string]schema.Attribute{
					"type": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(string(corev1.ServiceTypeClusterIP)),
						Validators: []validator.String{stringvalidator.OneOf("ClusterIP", "NodePort", "LoadBalancer")},
						MarkdownDescription: "Type of the Service: `ClusterIP`, `NodePort`, or `LoadBalancer`. Defaults to `ClusterIP`. The other two " +
							"make Consul reachable from outside the Kubernetes cluster, so enable ACLs first.",
					},
					"annotations": schema.MapAttribute{
						Optional: true, ElementType: types.StringType,
						MarkdownDescription: "Annotations of the client Service only, such as those that a load balancer reads.",
					},
					"load_balancer_class": schema.StringAttribute{
						Optional: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
						MarkdownDescription: "Implementation of the load balancer, only for type `LoadBalancer`. By default, the Kubernetes cluster " +
							"chooses it.",
					},
					"load_balancer_source_ranges": schema.ListAttribute{
						Optional: true, ElementType: types.StringType,
						MarkdownDescription: "CIDR ranges that may use the load balancer, only for type `LoadBalancer`.",
					},
					"cluster_ip": schema.StringAttribute{
						Optional: true, Validators: []validator.String{ipValidator{}},
						MarkdownDescription: "Fixed address of the Service inside the Kubernetes cluster, such as one that node-local DNS forwards to. By " +
							"default, Kubernetes chooses an address. Kubernetes does not allow the address of an existing Service to change.",
					},
					"ip_families": schema.ListAttribute{
						Optional: true, ElementType: types.StringType,
						Validators: []validator.List{
							listvalidator.ValueStringsAre(oneOf(string(corev1.IPv4Protocol), string(corev1.IPv6Protocol))),
							listvalidator.UniqueValues(),
							listvalidator.SizeBetween(1, 2),
						},
						MarkdownDescription: "IP families of the Service: `IPv4`, `IPv6`, or both, with the primary family first. Defaults to the family " +
							"of the Kubernetes cluster. With `IPv6`, the servers also listen on IPv6, so adding or removing `IPv6` restarts them. " +
							"Kubernetes does not allow the primary family of an existing Service to change.",
					},
					"ip_family_policy": schema.StringAttribute{
						Optional: true,
						Validators: []validator.String{
							oneOf(
								string(corev1.IPFamilyPolicySingleStack), string(corev1.IPFamilyPolicyPreferDualStack),
								string(corev1.IPFamilyPolicyRequireDualStack),
							),
						},
						MarkdownDescription: "IP family policy of the Service: `SingleStack`, `PreferDualStack`, or `RequireDualStack`. Defaults to " +
							"`SingleStack`, or to `RequireDualStack` with two `ip_families`. With any value other than `SingleStack`, the servers also " +
							"listen on IPv6.",
					},
					"external_traffic_policy": schema.StringAttribute{
						Optional: true,
						Validators: []validator.String{
							oneOf(string(corev1.ServiceExternalTrafficPolicyCluster), string(corev1.ServiceExternalTrafficPolicyLocal)),
						},
						MarkdownDescription: "Routing of external traffic, only for type `NodePort` or `LoadBalancer`: `Cluster` or `Local`. Defaults to " +
							"`Cluster`. `Local` keeps the addresses of clients, and only nodes with a server answer.",
					},
					"node_ports": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Ports on every node, only for type `NodePort` or `LoadBalancer`. By default, Kubernetes chooses them.",
						Attributes: map[string]schema.Attribute{
							"http":  nodePortAttribute("Port for HTTP."),
							"https": nodePortAttribute("Port for HTTPS, only with `tls.enabled`."),
							"dns":   nodePortAttribute("Port for DNS, over both TCP and UDP."),
						},
					},
				},
			},
			"acl": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultACL),
				MarkdownDescription: "ACL system of the cluster. Bootstrap it with `consul_k8s_acl_bootstrap`. A change restarts the servers one at " +
					"a time. " +
					"A running cluster goes from no ACLs to `deny` in steps, through `allow`. See the guide [Turn ACLs on](../guides/acl.md).",
				Attributes: map[string]schema.Attribute{
					"enabled": schema.BoolAttribute{
						Optional: true, Computed: true, Default: booldefault.StaticBool(false),
						MarkdownDescription: "Whether Consul checks the rights of each request. Defaults to `false`: every client may do everything.",
					},
					"default_policy": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString("deny"),
						Validators: []validator.String{oneOf("allow", "deny")},
						MarkdownDescription: "What happens to a request that no policy covers: `allow` or `deny`. Defaults to `deny`. Has no effect while " +
							"`enabled` is false. " +
							"A running cluster can change to `deny` only from `allow`, after ACLs are bootstrapped and every server has its agent token. The " +
							"plan warns of nodes, services, and sessions that may be cut off.",
					},
				},
			},
			"gossip": gossipAttribute(),
			"tls":    tlsAttribute(),
			"ui": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(true),
				MarkdownDescription: "Whether the servers serve the web interface, at `/ui` of the HTTP port. Defaults to `true`. A change restarts " +
					"the servers.",
			},
			"extra_config": schema.StringAttribute{
				Optional: true, Validators: []validator.String{extraConfigValidator{}},
				PlanModifiers: []planmodifier.String{attr.KeepSameJSON()},
				MarkdownDescription: "JSON object of [agent configuration](https://developer.hashicorp.com/consul/docs/reference/agent/configuration-file) for settings that have no attribute. It is merged last. " +
					"The plan refuses keys that the provider sets, even under their deprecated names. It also refuses secrets, because the text is " +
					"stored in the state and in a ConfigMap. " +
					"Consul checks a changed configuration before any server gets it, and the apply quotes what Consul refuses. A change restarts the " +
					"servers, unless all changed keys can be reloaded. See [Changes without an outage](../guides/changes.md).",
			},
			"security_context":        pod["security_context"],
			"share_process_namespace": pod["share_process_namespace"],
			"image_pull_secrets":      pod["image_pull_secrets"],
			"service_account":         pod["service_account"],
			"extra_pod":               pod["extra_pod"],
			"labels": metadataAttribute(
				"Labels of every object that is created for the cluster: its StatefulSet, ServiceAccount, PodDisruptionBudget, Services, Secrets, "+
					"ConfigMaps, volume claims, Leases, CronJobs of backup schedules, Jobs and their pods, and a namespace that the cluster creates. "+
					"Server pods have `pod_labels` instead, so a change restarts nothing. The Secrets of `consul_k8s_token` have labels of their own.",
				attr.Labels(),
			),
			"annotations": metadataAttribute(
				"Annotations of the StatefulSet, the Services, the ConfigMap with the configuration, the ServiceAccount, the PodDisruptionBudget, "+
					"and a namespace that the cluster creates. Pods do not get these annotations.",
				attr.Annotations(),
			),
			"namespace_labels": metadataAttribute(
				"Labels of the namespace, in addition to `labels`, such as `pod-security.kubernetes.io/enforce`. Requires `create_namespace = "+
					"true`. A change restarts nothing.",
				attr.Labels(),
			),
			"namespace_annotations": metadataAttribute(
				"Annotations of the namespace, in addition to `annotations`. Requires `create_namespace = true`. A change restarts nothing.",
				attr.Annotations(),
			),
			"pod_labels":      metadataAttribute("Labels of the server pods. A change restarts the servers.", attr.Labels()),
			"pod_annotations": metadataAttribute("Annotations of the server pods. A change restarts the servers.", attr.Annotations()),
			"deletion_protection": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(true),
				MarkdownDescription: "Whether the provider refuses to delete or replace the cluster. The plan refuses, except with `-replace`, " +
					"which only the apply refuses. Defaults to `true`. Before you destroy the cluster, set it to `false` and apply.",
			},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{
				Create: true, Update: true, Delete: true,
				CreateDescription: "How long to wait until every server is a voter and `restore_from` is restored. Defaults to `15m`, or to `60m` " +
					"with `restore_from`.",
				UpdateDescription: "How long all restarts and resizes together may take. Defaults to `60m`.",
				DeleteDescription: "How long to wait until pods and volumes are gone. Defaults to `15m`.",
			}),
			"running_version": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "Consul version that the servers run. While they run different versions, this is the oldest one.",
			},
			"http_address": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Address of the HTTP API inside the Kubernetes cluster, `host:port`. Null if `tls.https_only` is true.",
			},
			"https_address": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "Address of the HTTP API over TLS inside the Kubernetes cluster, `host:port`. Null if `tls.enabled` is false.",
			},
			"ca_certificate": schema.StringAttribute{
				Computed: true,
				MarkdownDescription: "Certificate authority that clients must trust, in PEM format. While the authority is being replaced, this " +
					"contains both the old and the new one. The key `ca.crt` of the ConfigMap `<name>-ca` has the same content, which pods find there " +
					"without an apply.",
			},
			"certificate_expiry": schema.SingleNestedAttribute{
				Computed:            true,
				MarkdownDescription: "When certificates expire, in RFC 3339 format. Null if `tls.enabled` is false.",
				Attributes: map[string]schema.Attribute{
					"ca":     schema.StringAttribute{Computed: true, MarkdownDescription: "When the certificate authority expires."},
					"server": schema.StringAttribute{Computed: true, MarkdownDescription: "When the certificate of the servers expires."},
				},
			},
			"dns_address": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Address of Consul DNS inside the Kubernetes cluster, `host:port`.",
			},
			"ready": schema.BoolAttribute{
				Computed: true,
				MarkdownDescription: "Whether the last apply saw every server run what is declared, as a healthy voter. " +
					"While `ready` is false, each plan shows an update that resumes where the last one stopped. This is not a health check: use " +
					"`consul_k8s_members` for that. " +
					"To make an apply that timed out fail, check `ready` in a `postcondition`.",
			},
			"rollout": schema.SingleNestedAttribute{
				Computed:            true,
				MarkdownDescription: "What the pending change does to the servers. The plan shows it before it happens. The next refresh clears it.",
				Attributes: map[string]schema.Attribute{
					"changes": schema.ListAttribute{
						Computed: true, ElementType: types.StringType,
						MarkdownDescription: "Settings that change, each with its old and new value and the kind of change: `write` touches no server, " +
							"`reload` makes each running server load the configuration, `rotate` replaces a key or a certificate while the servers run, " +
							"`resize` grows the volumes, `scale` adds or removes servers, `restart` restarts all servers, and `rebuild` restarts all " +
							"servers with a new volume for each. " +
							"The list includes the entries of `drift`: `drift:` marks what another tool or person changed, and `pending:` marks the rest of " +
							"a change that was interrupted or paused.",
					},
					"steps": schema.ListAttribute{
						Computed: true, ElementType: types.StringType,
						MarkdownDescription: "What happens to which server, and why, in the order known at the last refresh: followers first, and the " +
							"leader last, after it has transferred its leadership. " +
							"A snapshot before an upgrade comes first. " +
							"The rollout checks the servers again before each step, and follows the leader if the leadership has moved. If the servers could " +
							"not be asked, only the snapshot is listed.",
					},
				},
			},
			"upgrade_snapshot": upgradeSnapshotAttribute(),
			"origin":           originAttribute(),
			"drift": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Differences from what is declared: fields of the cluster's objects that others changed or added and that no " +
					"attribute shows, such as `Service consul: spec.ports[name=http].port`; pods that were not created from the current template or " +
					"that have another image; and the pending rest of a change that was interrupted. Empty when nothing is pending. " +
					"The next apply reverts what others changed and completes what is pending. Labels and annotations that others add belong to them " +
					"and are not listed.",
			},
		},
	}
}

func nodePortAttribute(description string) schema.Attribute {
	return schema.Int64Attribute{
		Optional:            true,
		Validators:          []validator.Int64{int64validator.Between(1, 65535)},
		MarkdownDescription: description,
	}
}

func retentionAttribute(when string) schema.Attribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString("Retain"),
		Validators:          []validator.String{stringvalidator.OneOf("Retain", "Delete")},
		MarkdownDescription: "Whether to `Retain` or `Delete` a volume " + when + ".",
	}
}

func metadataAttribute(description string, v validator.Map) schema.Attribute {
	return schema.MapAttribute{Optional: true, ElementType: types.StringType, Validators: []validator.Map{v}, MarkdownDescription: description}
}

func placementAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultPlacement),
		MarkdownDescription: "Placement of the servers on nodes. A change restarts the servers.",
		Attributes: attr.PlacementAttributes(map[string]schema.Attribute{
			"anti_affinity": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(server.AntiAffinityRequired),
				Validators: []validator.String{stringvalidator.OneOf(server.AntiAffinityRequired, server.AntiAffinityPreferred)},
				MarkdownDescription: "Whether two servers may share a node: `required` or `preferred`. Defaults to `required`, which never places " +
					"two servers on one node and so requires as many nodes as servers. " +
					"`preferred` places two servers on one node if it must. The loss of one node may then lose the quorum.",
			},
			"topology_spread": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Topology spread constraints, for example across zones.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"topology_key": schema.StringAttribute{
						Required: true, Validators: []validator.String{attr.LabelKey()},
						MarkdownDescription: "Node label to spread servers across, such as `topology.kubernetes.io/zone`.",
					},
					"max_skew": schema.Int64Attribute{
						Optional: true, Computed: true, Default: int64default.StaticInt64(1),
						Validators:          []validator.Int64{int64validator.Between(1, server.MaxReplicas)},
						MarkdownDescription: "Largest difference in the number of servers between two domains. Defaults to `1`.",
					},
					"when_unsatisfiable": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(string(corev1.DoNotSchedule)),
						Validators:          []validator.String{stringvalidator.OneOf(string(corev1.DoNotSchedule), string(corev1.ScheduleAnyway))},
						MarkdownDescription: "What to do if the constraint cannot be met: `DoNotSchedule` or `ScheduleAnyway`. Defaults to `DoNotSchedule`.",
					},
				}},
			},
		}),
	}
}

func performanceAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultPerformance),
		MarkdownDescription: "[Performance](https://developer.hashicorp.com/consul/docs/reference/agent/configuration-file/general#performance) settings of Consul. A change restarts the servers.",
		Attributes: map[string]schema.Attribute{
			"raft_multiplier": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(1), Validators: []validator.Int64{int64validator.Between(1, 10)},
				MarkdownDescription: "Multiplier of the Raft timeouts, 1 to 10. Defaults to `1`, as Consul recommends for production: a lost leader " +
					"is replaced within a few seconds.",
			},
			"leave_drain_time": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("0s"),
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
				Validators:    []validator.String{attr.DurationBetween(0, 10*time.Second)},
				MarkdownDescription: "How long a server continues to run after it has left, `0s` to `10s`. Defaults to `0s`. " +
					"During this time, the server has no vote and soon no leader, so it refuses requests on connections that clients keep open. A " +
					"longer time is rarely better.",
			},
			"rpc_hold_timeout": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("7s"),
				PlanModifiers:       []planmodifier.String{attr.KeepSameDuration()},
				Validators:          []validator.String{attr.DurationBetween(0, 10*time.Minute)},
				MarkdownDescription: "How long a request is held while there is no leader, instead of failing. Defaults to `7s`.",
			},
		},
	}
}

func autopilotAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultAutopilot),
		MarkdownDescription: "[Autopilot](https://developer.hashicorp.com/consul/docs/manage/scale/autopilot) settings: which servers vote, " +
			"and which dead servers are removed. They are stored in Consul and set through its API. " +
			"A change that another tool or person makes appears in `drift` and is reverted. The number of voters that must stay (`min_quorum`) " +
			"follows from `replicas`. A change restarts nothing.",
		Attributes: map[string]schema.Attribute{
			"cleanup_dead_servers": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(server.DefaultAutopilot.CleanupDeadServers),
				MarkdownDescription: "Whether a failed server is removed from the Raft peers. Defaults to `true`. A server that lost its volume " +
					"comes back only after its former peer is removed.",
			},
			"last_contact_threshold": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(attr.ShortDuration(server.DefaultAutopilot.LastContactThreshold)),
				PlanModifiers:       []planmodifier.String{attr.KeepSameDuration()},
				Validators:          []validator.String{attr.DurationBetween(time.Millisecond, time.Minute)},
				MarkdownDescription: "How long a healthy server may have been without contact from the leader. Defaults to `200ms`.",
			},
			"max_trailing_logs": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(int64(server.DefaultAutopilot.MaxTrailingLogs)), //nolint:gosec // 250
				Validators:          []validator.Int64{int64validator.AtLeast(1)},
				MarkdownDescription: "Number of Raft log entries that a healthy server may be behind the leader. Defaults to `250`.",
			},
			"server_stabilization_time": schema.StringAttribute{
				Optional: true, Computed: true,
				Default:       stringdefault.StaticString(attr.ShortDuration(server.DefaultAutopilot.ServerStabilizationTime)),
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
				Validators:    []validator.String{attr.DurationBetween(0, 10*time.Minute)},
				MarkdownDescription: "How long a server that joins must be healthy before it gets a vote. Defaults to `1s`, while Consul itself " +
					"defaults to `10s`. Autopilot checks only every ten seconds anyway, " +
					"and a longer time makes each restart that much longer.",
			},
		},
	}
}

func updateAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultUpdate),
		MarkdownDescription: "How changes that restart servers are rolled out. See the guide [Changes without an outage](../guides/changes.md).",
		Attributes: map[string]schema.Attribute{
			"strategy": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(server.DefaultUpdate.Strategy),
				Validators: []validator.String{oneOf(server.Rolling, server.OnDelete)},
				MarkdownDescription: "How servers restart: `rolling` or `on_delete`. Defaults to `rolling`, which restarts servers one at a time. " +
					"`on_delete` restarts no server: each server takes up the change when you delete its pod, for example in a maintenance window. " +
					"Even with `on_delete`, running servers reload what they can reload.",
			},
			"pause_after": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(server.DefaultUpdate.PauseAfter),
				Validators: []validator.Int64{int64validator.Between(0, server.MaxReplicas)},
				MarkdownDescription: "Number of servers after which a rollout pauses until the next apply, which completes it. `1` makes the first " +
					"follower a canary. While a rollout is paused, `ready` is false. Defaults to `0`, which never pauses.",
			},
			"on_failure": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(server.DefaultUpdate.OnFailure),
				Validators: []validator.String{oneOf(server.Hold, server.RollBack)},
				MarkdownDescription: "What to do if a server does not come back within `server_timeout`: `hold` or `roll_back`. Defaults to `hold`, " +
					"which leaves the server for you to look at and the others as they were. " +
					"`roll_back` brings back what ran before, unless a server with a newer version has been the leader.",
			},
			"snapshot_before": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(server.DefaultUpdate.SnapshotBefore),
				MarkdownDescription: "Whether to take and verify a snapshot before the first server gets another version. The snapshot is the only " +
					"way to revert an upgrade. Defaults to `true`. " +
					"The latest three snapshots are kept on a volume like that of a server, unless `snapshot_to` sets another location. See " +
					"`upgrade_snapshot`. With ACLs, the snapshot requires the management token of `consul_k8s_acl_bootstrap`.",
			},
			"snapshot_to": snapshotToAttribute(),
			"server_timeout": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(attr.ShortDuration(server.DefaultUpdate.ServerTimeout)),
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
				Validators:    []validator.String{attr.DurationBetween(10*time.Second, 24*time.Hour)},
				MarkdownDescription: "How long one step may take, such as from the restart of a server until it votes again. Defaults to `10m`. " +
					"With many gigabytes of data, a step may need longer.",
			},
		},
	}
}

// nested returns the path of a nested attribute.
func nested(names ...string) path.Path {
	p := path.Root(names[0])
	for _, n := range names[1:] {
		p = p.AtName(n)
	}
	return p
}
