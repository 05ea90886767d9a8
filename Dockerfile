FROM python:3.13.7-slim-bookworm AS build
WORKDIR /src
COPY requirements.txt ./
RUN python -m venv /opt/riskmon \
    && /opt/riskmon/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY pyproject.toml LICENSE README.md ./
COPY alerts alerts
COPY dashboards dashboards
COPY riskmon riskmon
RUN /opt/riskmon/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.13.7-slim-bookworm
# The uid is fixed, so that a shared tmpfs can be owned by it. The directories exist in the image, so
# that new volumes inherit their owner.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/riskmon riskmon \
    && install -d -o riskmon -g riskmon /etc/riskmon /var/lib/riskmon
COPY --from=build /opt/riskmon /opt/riskmon
ENV PATH=/opt/riskmon/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER riskmon
WORKDIR /var/lib/riskmon
EXPOSE 9788
ENTRYPOINT ["riskmon"]
CMD ["run"]
