{{/* 56 characters: the names of Services have 63 at most, and one of them ends in -admin. */}}
{{- define "parley.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 56 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 56 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 56 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "parley.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "parley.labels" -}}
{{ include "parley.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "parley.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}:{{ $tag }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{/* Seconds before SIGTERM: the Services stop sending new sessions first, then the gateway refuses them. */}}
{{- define "parley.preStopSeconds" -}}10{{- end -}}

{{/* The configuration as YAML. Of the grace period, what preStop and the closing handshakes take is left out. */}}
{{- define "parley.config" -}}
{{- $grace := sub (int .Values.terminationGracePeriodSeconds) (add 15 (int (include "parley.preStopSeconds" .))) -}}
{{- $server := dict "host" "0.0.0.0" "port" 8080 "admin_host" "0.0.0.0" "admin_port" 9090 "shutdown_grace_s" $grace -}}
{{- with .Values.trustedProxies -}}
{{- $_ := set $server "trusted_proxies" . -}}
{{- end -}}
{{- $config := deepCopy (default dict .Values.config) -}}
{{- $server = mergeOverwrite $server (default dict $config.server) -}}
{{- range list "host" "admin_host" -}}
{{- if has (get $server .) (list "127.0.0.1" "::1" "localhost") -}}
{{- fail (printf "config.server.%s is %s: nobody outside of the container reaches that; leave it out" . (get $server .)) -}}
{{- end -}}
{{- end -}}
{{- if not $server.admin_port -}}
{{- fail "config.server.admin_port: the kubelet's probes and Prometheus need a fixed one; leave it out for 9090" -}}
{{- end -}}
{{- toYaml (set $config "server" $server) -}}
{{- end -}}
