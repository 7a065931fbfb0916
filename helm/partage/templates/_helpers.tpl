{{- define "partage.labels" -}}
app.kubernetes.io/name: partage
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "partage.selector" -}}
app.kubernetes.io/name: partage
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* One image below the one registry prefix; a digest wins over a tag. */ -}}
{{- define "partage.image" -}}
{{- $image := index .root.Values.images .which -}}
{{- $base := printf "%s/%s" .root.Values.imageRegistry $image.repository -}}
{{- if $image.digest -}}{{ printf "%s@%s" $base $image.digest }}{{- else -}}{{ printf "%s:%s" $base ($image.tag | default .root.Chart.AppVersion) }}{{- end -}}
{{- end }}

{{- define "partage.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "partage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "partage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "partage.secretName" -}}
{{- if .Values.secrets.create -}}partage-secrets{{- else -}}{{ .Values.secrets.existingSecret }}{{- end -}}
{{- end }}

{{- /* domain=namespace of the domains that are switched on. */ -}}
{{- define "partage.domainNamespaces" -}}
{{- $pairs := list -}}
{{- range $name, $domain := .Values.domains -}}
{{- if $domain.enabled -}}{{- $pairs = append $pairs (printf "%s=%s" $name $domain.namespace) -}}{{- end -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end }}

{{- define "partage.dnsEgress" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.networkPolicy.dns.namespace }}
      podSelector:
        matchLabels:
          {{- toYaml .Values.networkPolicy.dns.podLabels | nindent 10 }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- /* The API server has no pod selector; where its addresses are not given, only its ports are. */ -}}
{{- define "partage.apiServerEgress" -}}
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end }}

{{- define "partage.peers" -}}
{{- range .namespaces }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end }}
{{- range .cidrs }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "partage.rayPod" -}}
serviceAccountName: partage-ray
automountServiceAccountToken: false
{{- include "partage.pullSecrets" .root }}
securityContext:
  {{- include "partage.podSecurity" .root | nindent 2 }}
{{- end }}

{{- define "partage.rayContainer" -}}
image: {{ include "partage.image" (dict "root" .root "which" "ray") }}
imagePullPolicy: {{ .root.Values.imagePullPolicy }}
env:
  - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
  - {name: HF_HUB_OFFLINE, value: "1"}
  - {name: HOME, value: /tmp}
  {{- with .home }}
  - {name: PARTAGE_HOME, value: {{ . }}}
  {{- end }}
securityContext:
  {{- include "partage.containerSecurity" .root | nindent 2 }}
{{- end }}

{{- /* What a domain's Serve starts with: the gateway and an empty table. The control plane writes all that follows. */ -}}
{{- define "partage.seedConfig" -}}
applications:
- args:
    batch_dir: /var/lib/partage/batches/{{ . }}
    control_token_file: /etc/partage/gateway/control
    domain: {{ . }}
    door_host: 0.0.0.0
    door_port: "8000"
    ledger_dir: /var/lib/partage/ledger/{{ . }}
    pepper_file: /etc/partage/gateway/pepper
  deployments:
  - name: Gateway
    num_replicas: 1
    ray_actor_options:
      label_selector:
        partage.role: head
      num_cpus: 0.01
    user_config:
      domain: {{ . }}
      generation: 0
      keys: []
      routes: []
      shares: []
      simulated: false
      usage_retention_days: null
  import_path: serving.apps.gateway:build
  name: gateway
  route_prefix: /
http_options:
  host: 0.0.0.0
  port: 8000
proxy_location: Disabled
{{- end }}
