#!/bin/bash
# Builds VFIO and iommufd as modules for a Debian kernel whose headers and sources are installed here, with the
# options on that Debian leaves off. The modules end in /built.
#
# usage: cdev-build.sh RELEASE
set -euo pipefail
release=$1

cd /usr/src
archive=$(echo linux-source-*.tar.xz)
source=${archive%.tar.xz}
tar -xJf "$archive" "$source"/{drivers/vfio,drivers/iommu,lib/interval_tree.c}

mkdir /modules
cp -r "$source/drivers/vfio" /modules/vfio
cp -r "$source/drivers/iommu/iommufd" /modules/iommufd
cp "$source"/drivers/iommu/*.h /modules/
# Buses that are no PCI, and what only platforms have.
rm -rf /modules/vfio/{platform,mdev,cdx,fsl-mc}
echo 'obj-m += vfio/ iommufd/' >/modules/Kbuild

# iommufd as one module. A kernel without it also lacks the half of lib/interval_tree.c that it is built on.
cd /modules/iommufd
objects=
for part in device eventq fault hw_pagetable io_pagetable ioas main pages vfio_compat viommu driver hwpt_noiommu; do
    [ -f $part.c ] && objects="$objects $part.o"
done
printf 'iommufd-y := %s interval_tree_span.o\nobj-m += iommufd.o\n' "$objects" >Makefile
{
    echo '#include <linux/interval_tree.h>'
    echo '#include <linux/module.h>'
    sed -n '/#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER/,/#endif/p' "/usr/src/$source/lib/interval_tree.c" | grep -v EXPORT_SYMBOL
} >interval_tree_span.c

# Options go in twice: to make, which chooses files, and to the compiler, as the kernel's own configuration is fixed.
make_options=(CONFIG_IOMMUFD=m CONFIG_VFIO_DEVICE_CDEV=y CONFIG_VFIO_NOIOMMU=y)
defines='-DCONFIG_IOMMUFD_MODULE=1 -DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_VFIO_NOIOMMU=1'
defines="$defines -DCONFIG_IOMMUFD_DRIVER_CORE=1 -DCONFIG_INTERVAL_TREE_SPAN_ITER=1"
if [ -f hwpt_noiommu.c ]; then
    make_options+=(CONFIG_IOMMUFD_NOIOMMU=y)
    defines="$defines -DCONFIG_IOMMUFD_NOIOMMU=1"
fi
# Variants for devices that no test has, and debug information that needs the kernel itself.
for off in VFIO_MDEV VFIO_PLATFORM_BASE QAT_VFIO_PCI PDS_VFIO_PCI MLX5_VFIO_PCI VIRTIO_VFIO_PCI XE_VFIO_PCI HISI_ACC_VFIO_PCI DEBUG_INFO_BTF_MODULES; do
    make_options+=("CONFIG_$off=")
done

make -C "/usr/src/linux-headers-$release" M=/modules -j"$(nproc)" "${make_options[@]}" KCFLAGS="$defines" modules
for module in $(find /modules -name '*.ko'); do
    strip --strip-debug -o "/built/$(basename "$module")" "$module"
done
