{{- define "amrita.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "amrita.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "amrita.scheme" -}}
{{ if .Values.tls.insecure }}http{{ else }}https{{ end }}
{{- end }}

{{- /* All nodes, each by the name that the headless service gives it. */ -}}
{{- define "amrita.peers" -}}
{{- $root := . -}}
{{- $all := list -}}
{{- range $number := until (int .Values.nodes) -}}
{{- $all = append $all (printf "%s://%s-%d.%s.%s.svc:%d" (include "amrita.scheme" $root) $root.Release.Name $number $root.Release.Name $root.Release.Namespace (int $root.Values.port)) -}}
{{- end -}}
{{- join "," $all -}}
{{- end }}
