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

// Default timeouts. A create or an update that runs into one loses nothing: the
// next apply goes on.
const (
	defaultCreateTimeout = 15 * time.Minute
	defaultUpdateTimeout = 60 * time.Minute
	defaultDeleteTimeout = 15 * time.Minute
)

// maxNameLength leaves room for "-server-<ordinal>" and the revision hash that
// StatefulSet pods carry as a label of at most 63 characters.
const maxNameLength = 45

// Defaults of what is declared.
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
		MarkdownDescription: "A cluster of Consul servers in Kubernetes: a StatefulSet with its configuration, Services, service account and disruption budget.\n\n" +
			"Create waits until every server is a healthy voter and one of them leads. A create that does not get that far within its timeout is not tainted: " +
			"it ends with a warning that explains what is missing, `ready` is false, and the next apply goes on.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`<namespace>/<name>`: what other resources take as `cluster`.",
			},
			"name": schema.StringAttribute{
				Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				Validators: []validator.String{attr.DNSLabel(maxNameLength, true)},
				MarkdownDescription: "Name of the cluster. The client Service has this name; the StatefulSet, and everything that belongs to the servers, has it with the suffix `-server`. " +
					"Starts with a letter, at most 45 characters. A change replaces the cluster.",
			},
			"namespace": schema.StringAttribute{
				Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				Validators:          []validator.String{attr.DNSLabel(63, false)},
				MarkdownDescription: "Namespace of the servers. A change replaces the cluster.",
			},
			"create_namespace": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the cluster makes its namespace. Default `false`. The namespace must not exist, unless an earlier cluster of this name created it, and is deleted with the cluster if it is empty. If the cluster needs a Secret that you bring, such as one of `tls.ca_secret`, `gossip.key_secret`, `restore_from` or `image_pull_secrets`, create the namespace and the Secret elsewhere.",
			},
			"version": schema.StringAttribute{
				Optional: true, Computed: true, Validators: []validator.String{versionValidator{}},
				MarkdownDescription: "Consul version, such as `1.22.7`; 1.15 or later. Required unless `image` has it as its tag. A change restarts the servers, one at a time. " +
					"It may go over two release lines at most, and not down: the plan refuses anything else and names the versions to apply one after the other, as the function `upgrade_path` does.",
			},
			"image": schema.StringAttribute{
				Optional: true, Computed: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "Image of the servers: by tag, by digest (`docker.io/hashicorp/consul:1.22.7@sha256:…`), or by both, where the digest counts. Without a Consul version as its tag it needs `version`, and no plan can check that the two agree: prefer tag and digest together. Default `docker.io/hashicorp/consul:<version>`. A change restarts the servers, one at a time. " +
					"Beside `consul`, the image needs a shell (`sh`) with `cat`, `cp`, `date`, `grep`, `ls`, `mkdir`, `mv`, `rm`, `sed`, `sleep`, `sort`, `timeout`, `touch` and `tr`, and `wget` or `curl`; with `tls.enabled`, `curl`. " +
					"The container `await-peer-removal` logs what is missing when a server starts. Snapshots before upgrades and backups also use `cut`, `head`, `sha256sum`, `sync`, `tail` and `wc`.",
			},
			"replicas": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(3),
				Validators: []validator.Int64{replicasValidator{}},
				MarkdownDescription: "Number of servers: 1, 3 (default), 5 or 7. Three survive the loss of one, five of two. " +
					"Servers are added and removed one at a time, without restarting the others.",
			},
			"datacenter": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("dc1"),
				Validators: []validator.String{stringvalidator.RegexMatches(regexp.MustCompile(`^[a-z0-9_-]{1,63}$`),
					"must be lower-case letters, digits, hyphens and underscores, at most 63")},
				MarkdownDescription: "Name of the Consul datacenter. Default `dc1`. It cannot be changed: servers of another datacenter refuse the existing data.",
			},
			"domain": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("consul"),
				Validators: []validator.String{stringvalidator.RegexMatches(regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`),
					"must be a DNS domain in lower case, without a final dot")},
				MarkdownDescription: "DNS domain that Consul answers for. Default `consul`. A change restarts the servers, and is refused while `tls.enabled` is true.",
			},
			"storage": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultStorage),
				MarkdownDescription: "The volume of each server.",
				Attributes: map[string]schema.Attribute{
					"size": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(defaultSize),
						Validators:          []validator.String{attr.PositiveQuantity()},
						PlanModifiers:       []planmodifier.String{attr.KeepSameQuantity()},
						MarkdownDescription: "Size of each volume, a Kubernetes quantity. Default `10Gi`. A larger size makes the volumes grow as `on_change` says; they never shrink.",
					},
					"class": schema.StringAttribute{
						Optional: true, Validators: []validator.String{attr.Check("a storage class", checkStorageClass)},
						MarkdownDescription: "Storage class. Default: the Kubernetes cluster's default class. `\"\"` is no class: the claims bind to PersistentVolumes without a class that you create, one for each server, " +
							"and one for the snapshot before an upgrade unless `update.snapshot_to` or `update.snapshot_before` says otherwise. It can only be changed with `on_change = \"rebuild\"`.",
					},
					"on_change": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(server.GrowVolumes),
						Validators: []validator.String{oneOf(server.GrowVolumes, server.RebuildServers)},
						MarkdownDescription: "What a change of `size` or `class` does. `grow` (default) lets the volumes grow in place, which takes a storage class that allows it (`allowVolumeExpansion`) and restarts " +
							"no server unless its file system can only grow when it is mounted anew. `rebuild` restarts one server after the other, followers first, each with a new, empty volume that it fills from the leader; " +
							"it takes at least three servers, and the old volumes go by the reclaim policy of their PersistentVolumes.",
					},
					"retention": schema.SingleNestedAttribute{
						Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultRetention),
						MarkdownDescription: "What happens to volumes that are no longer used, in the words of the StatefulSet's `persistentVolumeClaimRetentionPolicy`.",
						Attributes: map[string]schema.Attribute{
							"when_deleted": retentionAttribute("when the cluster is deleted. A cluster of the same name starts with retained volumes and their data: its plan names them, and refuses a `version` older than the data"),
							"when_scaled":  retentionAttribute("when its server is removed by a smaller `replicas`"),
						},
					},
				},
			},
			"resources": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultResources),
				MarkdownDescription: "Compute resources of each server, quantities by resource name. A change restarts the servers.",
				Attributes: map[string]schema.Attribute{
					"requests": schema.MapAttribute{
						Optional: true, Computed: true, ElementType: types.StringType, Validators: attr.Quantities(), Default: mapdefault.StaticValue(defaultRequests),
						MarkdownDescription: "Default `{ cpu = \"500m\", memory = \"1Gi\" }`.",
					},
					"limits": schema.MapAttribute{
						Optional: true, ElementType: types.StringType, Validators: attr.Quantities(),
						MarkdownDescription: "Default none. A CPU limit throttles Raft and causes elections.",
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
				MarkdownDescription: "Metrics.",
				Attributes: map[string]schema.Attribute{
					"prometheus_retention_time": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString("1m"),
						PlanModifiers:       []planmodifier.String{attr.KeepSameDuration()},
						Validators:          []validator.String{attr.DurationBetween(0, 7*24*time.Hour)},
						MarkdownDescription: "How long `/v1/agent/metrics?format=prometheus` keeps metrics; `0s` turns it off. Default `1m`: set at least twice the scrape interval. A change restarts the servers.",
					},
				},
			},
			"service": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultService),
				MarkdownDescription: "The client Service: HTTP on port 8500, HTTPS on port `tls.https_port` with `tls.enabled`, DNS on port 53.",
				Attributes: map[string]schema.Attribute{
					"type": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(string(corev1.ServiceTypeClusterIP)),
						Validators:          []validator.String{stringvalidator.OneOf("ClusterIP", "NodePort", "LoadBalancer")},
						MarkdownDescription: "`ClusterIP` (default), `NodePort` or `LoadBalancer`. The last two let Consul be reached from outside: turn ACLs on first.",
					},
					"annotations": schema.MapAttribute{
						Optional: true, ElementType: types.StringType,
						MarkdownDescription: "Annotations of the client Service alone, such as those that a load balancer reads.",
					},
					"load_balancer_class": schema.StringAttribute{
						Optional: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
						MarkdownDescription: "Implementation of the load balancer; only with type `LoadBalancer`. Default: what the Kubernetes cluster chooses.",
					},
					"load_balancer_source_ranges": schema.ListAttribute{
						Optional: true, ElementType: types.StringType,
						MarkdownDescription: "CIDR ranges that may use the load balancer; only with type `LoadBalancer`.",
					},
					"cluster_ip": schema.StringAttribute{
						Optional: true, Validators: []validator.String{ipValidator{}},
						MarkdownDescription: "Fixed address of the Service inside the Kubernetes cluster, such as one that node-local DNS forwards to. Default: Kubernetes chooses one. Kubernetes does not let the address of an existing Service be changed.",
					},
					"ip_families": schema.ListAttribute{
						Optional: true, ElementType: types.StringType,
						Validators: []validator.List{listvalidator.ValueStringsAre(oneOf(string(corev1.IPv4Protocol), string(corev1.IPv6Protocol))), listvalidator.UniqueValues(), listvalidator.SizeBetween(1, 2)},
						MarkdownDescription: "`IPv4`, `IPv6`, or both, the primary one first. Default: that of the Kubernetes cluster. With `IPv6` the servers also listen on IPv6, so adding or removing it restarts them. " +
							"Kubernetes does not let the primary one of an existing Service be changed.",
					},
					"ip_family_policy": schema.StringAttribute{
						Optional: true, Validators: []validator.String{oneOf(string(corev1.IPFamilyPolicySingleStack), string(corev1.IPFamilyPolicyPreferDualStack), string(corev1.IPFamilyPolicyRequireDualStack))},
						MarkdownDescription: "`SingleStack`, `PreferDualStack` or `RequireDualStack`. Default: `SingleStack`, or `RequireDualStack` with two `ip_families`. Anything but `SingleStack` makes the servers listen on IPv6 too.",
					},
					"external_traffic_policy": schema.StringAttribute{
						Optional: true, Validators: []validator.String{oneOf(string(corev1.ServiceExternalTrafficPolicyCluster), string(corev1.ServiceExternalTrafficPolicyLocal))},
						MarkdownDescription: "`Cluster` (default) or `Local`, which keeps the addresses of clients, and is only answered by nodes with a server; with type `NodePort` or `LoadBalancer`.",
					},
					"node_ports": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Ports on every node, with type `NodePort` or `LoadBalancer`. Default: Kubernetes chooses them.",
						Attributes: map[string]schema.Attribute{
							"http":  nodePortAttribute("Port of HTTP."),
							"https": nodePortAttribute("Port of HTTPS; with `tls.enabled`."),
							"dns":   nodePortAttribute("Port of DNS, over both TCP and UDP."),
						},
					},
				},
			},
			"acl": schema.SingleNestedAttribute{
				Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultACL),
				MarkdownDescription: "The ACL system. Bootstrap it with `consul_k8s_acl_bootstrap`. A change restarts the servers, one at a time. " +
					"A running cluster goes from no ACLs to `deny` in steps, by `allow`: see the guide [Turn ACLs on](../guides/acl.md).",
				Attributes: map[string]schema.Attribute{
					"enabled": schema.BoolAttribute{
						Optional: true, Computed: true, Default: booldefault.StaticBool(false),
						MarkdownDescription: "Whether requests are checked for their rights. Default `false`: everyone may do everything.",
					},
					"default_policy": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString("deny"),
						Validators: []validator.String{oneOf("allow", "deny")},
						MarkdownDescription: "What happens to a request that no policy speaks of: `deny` (default) or `allow`. Without effect while `enabled` is false. " +
							"A running cluster may go to `deny` only from `allow`, once ACLs are bootstrapped and every server has its agent token; the plan warns of nodes, services and sessions that may be cut off.",
					},
				},
			},
			"gossip": gossipAttribute(),
			"tls":    tlsAttribute(),
			"ui": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(true),
				MarkdownDescription: "Whether the servers serve the web interface, at `/ui` of the HTTP port. Default `true`. A change restarts the servers.",
			},
			"extra_config": schema.StringAttribute{
				Optional: true, Validators: []validator.String{extraConfigValidator{}},
				PlanModifiers: []planmodifier.String{attr.KeepSameJSON()},
				MarkdownDescription: "A JSON object of [agent configuration](https://developer.hashicorp.com/consul/docs/reference/agent/configuration-file), merged last, for what has no attribute. " +
					"The plan refuses keys that the provider sets, under their deprecated names too, and secrets: the text is stored in the state and in a ConfigMap. " +
					"Before any server gets a changed configuration, Consul checks it: the apply quotes what it refuses. A change restarts the servers unless all changed keys can be reloaded: see [Changes without an outage](../guides/changes.md).",
			},
			"security_context":        pod["security_context"],
			"share_process_namespace": pod["share_process_namespace"],
			"image_pull_secrets":      pod["image_pull_secrets"],
			"service_account":         pod["service_account"],
			"extra_pod":               pod["extra_pod"],
			"labels": metadataAttribute("Labels of every object that is made for the cluster: its StatefulSet, ServiceAccount, PodDisruptionBudget, Services, Secrets, ConfigMaps, volume claims, Leases, CronJobs of backup schedules, Jobs and their pods, and a namespace that it creates. "+
				"Pods of servers have `pod_labels` instead, so a change restarts nothing. The Secrets of `consul_k8s_token` have labels of their own.", attr.Labels()),
			"annotations":           metadataAttribute("Annotations of the StatefulSet, the Services, the ConfigMap with the configuration, the service account, the disruption budget, and a namespace that the cluster creates; not of the pods.", attr.Annotations()),
			"namespace_labels":      metadataAttribute("Labels of the namespace, in addition to `labels`, such as `pod-security.kubernetes.io/enforce`. Requires `create_namespace = true`. A change restarts nothing.", attr.Labels()),
			"namespace_annotations": metadataAttribute("Annotations of the namespace, in addition to `annotations`. Requires `create_namespace = true`. A change restarts nothing.", attr.Annotations()),
			"pod_labels":            metadataAttribute("Labels of the server pods. A change restarts the servers.", attr.Labels()),
			"pod_annotations":       metadataAttribute("Annotations of the server pods. A change restarts the servers.", attr.Annotations()),
			"deletion_protection": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(true),
				MarkdownDescription: "Refuse to delete or replace the cluster, at plan; only `-replace` is refused at apply. Default `true`; set it to `false` and apply before destroying.",
			},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{
				Create: true, Update: true, Delete: true,
				CreateDescription: "How long to wait for every server to be a voter, and for the restore of `restore_from`. Default `15m`, with `restore_from` `60m`.",
				UpdateDescription: "How long all restarts and resizes may take. Default `60m`.",
				DeleteDescription: "How long to wait for pods and volumes to go. Default `15m`.",
			}),
			"running_version": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "Consul version that runs: while servers run different versions, the oldest of them.",
			},
			"http_address": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Address of the HTTP API inside the Kubernetes cluster, `host:port`; null where `tls.https_only` is true.",
			},
			"https_address": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "Address of the HTTP API over TLS inside the Kubernetes cluster, `host:port`; null where `tls.enabled` is false.",
			},
			"ca_certificate": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "What clients trust, in PEM: the certificate authority, and while it is being replaced both. It is also in key `ca.crt` of the ConfigMap `<name>-ca`, where pods find it without an apply.",
			},
			"certificate_expiry": schema.SingleNestedAttribute{
				Computed:            true,
				MarkdownDescription: "When certificates end, in RFC 3339; null where `tls.enabled` is false.",
				Attributes: map[string]schema.Attribute{
					"ca":     schema.StringAttribute{Computed: true, MarkdownDescription: "End of the certificate authority."},
					"server": schema.StringAttribute{Computed: true, MarkdownDescription: "End of the servers' certificate."},
				},
			},
			"dns_address": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Address of Consul's DNS inside the Kubernetes cluster, `host:port`.",
			},
			"ready": schema.BoolAttribute{
				Computed: true,
				MarkdownDescription: "Whether the last apply saw every server run what is declared, as a healthy voter. " +
					"While it is false each plan shows an update that goes on where the last one stopped. It is not a health check: use `consul_k8s_members` for that. " +
					"A `postcondition` on it makes an apply that timed out fail.",
			},
			"rollout": schema.SingleNestedAttribute{
				Computed:            true,
				MarkdownDescription: "What the pending change does to the servers. A plan shows it before it is done; the next refresh empties it.",
				Attributes: map[string]schema.Attribute{
					"changes": schema.ListAttribute{
						Computed: true, ElementType: types.StringType,
						MarkdownDescription: "Each setting that changes, its values, and what that takes: `write` touches no server, `resize` makes the volumes grow, `scale` adds or removes servers, `restart` restarts all of them, and `rebuild` does with a new volume for each. " +
							"Entries of `drift` are here too: `drift:` is what somebody else changed, and `pending:` the rest of a change that was interrupted or paused.",
					},
					"steps": schema.ListAttribute{
						Computed: true, ElementType: types.StringType,
						MarkdownDescription: "What is done to which server, in the order known when the state was last refreshed: followers first, and the leader last, after it has handed over. " +
							"A snapshot before an upgrade comes first. " +
							"The roll looks again before each step, and follows the leader where it has moved. Where the servers could not be asked, it tells of the snapshot alone.",
					},
				},
			},
			"upgrade_snapshot": upgradeSnapshotAttribute(),
			"origin":           originAttribute(),
			"drift": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Fields of the cluster's objects that others changed or added and that no attribute shows, such as `Service consul: spec.ports[name=http].port`, pods that were not made from the current template or have another image, and what is pending of a change that was interrupted. Empty when nothing is pending. " +
					"The next apply takes them back. Labels and annotations that others add are theirs and not named.",
			},
		},
	}
}

func nodePortAttribute(description string) schema.Attribute {
	return schema.Int64Attribute{Optional: true, Validators: []validator.Int64{int64validator.Between(1, 65535)}, MarkdownDescription: description}
}

func retentionAttribute(when string) schema.Attribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString("Retain"),
		Validators:          []validator.String{stringvalidator.OneOf("Retain", "Delete")},
		MarkdownDescription: "`Retain` (default) or `Delete`: what happens to a volume " + when + ".",
	}
}

func metadataAttribute(description string, v validator.Map) schema.Attribute {
	return schema.MapAttribute{Optional: true, ElementType: types.StringType, Validators: []validator.Map{v}, MarkdownDescription: description}
}

func placementAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultPlacement),
		MarkdownDescription: "On which nodes servers run. A change restarts the servers.",
		Attributes: attr.PlacementAttributes(map[string]schema.Attribute{
			"anti_affinity": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(server.AntiAffinityRequired),
				Validators: []validator.String{stringvalidator.OneOf(server.AntiAffinityRequired, server.AntiAffinityPreferred)},
				MarkdownDescription: "`required` (default) never puts two servers on one node: it takes as many nodes as servers. " +
					"`preferred` does where it must; the loss of one node may then lose the quorum.",
			},
			"topology_spread": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Topology spread constraints, for example over zones.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"topology_key": schema.StringAttribute{
						Required: true, Validators: []validator.String{attr.LabelKey()},
						MarkdownDescription: "Node label to spread over, such as `topology.kubernetes.io/zone`.",
					},
					"max_skew": schema.Int64Attribute{
						Optional: true, Computed: true, Default: int64default.StaticInt64(1), Validators: []validator.Int64{int64validator.Between(1, server.MaxReplicas)},
						MarkdownDescription: "Largest difference in servers between two domains. Default 1.",
					},
					"when_unsatisfiable": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(string(corev1.DoNotSchedule)),
						Validators:          []validator.String{stringvalidator.OneOf(string(corev1.DoNotSchedule), string(corev1.ScheduleAnyway))},
						MarkdownDescription: "`DoNotSchedule` (default) or `ScheduleAnyway`.",
					},
				}},
			},
		}),
	}
}

func performanceAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultPerformance),
		MarkdownDescription: "Consul's [performance](https://developer.hashicorp.com/consul/docs/reference/agent/configuration-file/general#performance) settings. A change restarts the servers.",
		Attributes: map[string]schema.Attribute{
			"raft_multiplier": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(1), Validators: []validator.Int64{int64validator.Between(1, 10)},
				MarkdownDescription: "Scales Raft's timeouts, 1 to 10. Default 1, as Consul recommends for production: a lost leader is replaced within a few seconds.",
			},
			"leave_drain_time": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("0s"),
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
				Validators:    []validator.String{attr.DurationBetween(0, 10*time.Second)},
				MarkdownDescription: "How much longer a server goes on running that has left, `0s` (default) to `10s`. " +
					"It has no vote and soon no leader then, so that it refuses what clients ask over connections that they kept open: longer is seldom better.",
			},
			"rpc_hold_timeout": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("7s"),
				PlanModifiers:       []planmodifier.String{attr.KeepSameDuration()},
				Validators:          []validator.String{attr.DurationBetween(0, 10*time.Minute)},
				MarkdownDescription: "How long a request is held while there is no leader, instead of failing. Default `7s`.",
			},
		},
	}
}

func autopilotAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultAutopilot),
		MarkdownDescription: "[Autopilot](https://developer.hashicorp.com/consul/docs/manage/scale/autopilot): who votes, and which dead server is removed. It is stored in Consul and set through the API; " +
			"what somebody else changes shows in `drift` and is taken back. How many voters must stay (`min_quorum`) follows from `replicas`. A change restarts nothing.",
		Attributes: map[string]schema.Attribute{
			"cleanup_dead_servers": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(server.DefaultAutopilot.CleanupDeadServers),
				MarkdownDescription: "Whether a failed server is removed from the Raft peers. Default `true`. A server that lost its disk comes back only when its former self is removed.",
			},
			"last_contact_threshold": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(attr.ShortDuration(server.DefaultAutopilot.LastContactThreshold)),
				PlanModifiers:       []planmodifier.String{attr.KeepSameDuration()},
				Validators:          []validator.String{attr.DurationBetween(time.Millisecond, time.Minute)},
				MarkdownDescription: "For how long a healthy server may not have heard of the leader. Default `200ms`.",
			},
			"max_trailing_logs": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(int64(server.DefaultAutopilot.MaxTrailingLogs)), //nolint:gosec // 250
				Validators:          []validator.Int64{int64validator.AtLeast(1)},
				MarkdownDescription: "By how many Raft log entries a healthy server may be behind the leader. Default 250.",
			},
			"server_stabilization_time": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(attr.ShortDuration(server.DefaultAutopilot.ServerStabilizationTime)),
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
				Validators:    []validator.String{attr.DurationBetween(0, 10*time.Minute)},
				MarkdownDescription: "For how long a server that joins must be healthy before it gets its vote. Default `1s`, Consul's is `10s`: autopilot looks every ten seconds anyway, " +
					"and each restart takes as much longer.",
			},
		},
	}
}

func updateAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultUpdate),
		MarkdownDescription: "How changes that restart servers are carried out. See the guide [Changes without an outage](../guides/changes.md).",
		Attributes: map[string]schema.Attribute{
			"strategy": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(server.DefaultUpdate.Strategy),
				Validators: []validator.String{oneOf(server.Rolling, server.OnDelete)},
				MarkdownDescription: "`rolling` (default) restarts servers, one at a time. `on_delete` restarts none: each takes the change up when you delete its pod, in a maintenance window for instance; " +
					"what running servers can reload, they reload all the same.",
			},
			"pause_after": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(server.DefaultUpdate.PauseAfter), Validators: []validator.Int64{int64validator.Between(0, server.MaxReplicas)},
				MarkdownDescription: "After how many servers a roll pauses until the next apply, which goes on to the end: 1 makes the first follower a canary. Until then `ready` is false. Default 0: never.",
			},
			"on_failure": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(server.DefaultUpdate.OnFailure),
				Validators: []validator.String{oneOf(server.Hold, server.RollBack)},
				MarkdownDescription: "What happens when a server does not come back within `server_timeout`. `hold` (default) leaves it for you to look at, and the others as they were. " +
					"`roll_back` brings back what ran before, unless a server with a newer version has led.",
			},
			"snapshot_before": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(server.DefaultUpdate.SnapshotBefore),
				MarkdownDescription: "Whether a snapshot is taken and verified before the first server gets another version: there is no other way back from an upgrade. Default `true`. " +
					"The latest three are kept on a volume like a server's, unless `snapshot_to` says where else; see `upgrade_snapshot`. With ACLs it takes the management token of `consul_k8s_acl_bootstrap`.",
			},
			"snapshot_to": snapshotToAttribute(),
			"server_timeout": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(attr.ShortDuration(server.DefaultUpdate.ServerTimeout)),
				PlanModifiers:       []planmodifier.String{attr.KeepSameDuration()},
				Validators:          []validator.String{attr.DurationBetween(10*time.Second, 24*time.Hour)},
				MarkdownDescription: "How long one step may take, such as a server from its restart until it votes again. Default `10m`; a store of many gigabytes may take longer.",
			},
		},
	}
}

// nested is the path of a nested attribute.
func nested(names ...string) path.Path {
	p := path.Root(names[0])
	for _, n := range names[1:] {
		p = p.AtName(n)
	}
	return p
}
